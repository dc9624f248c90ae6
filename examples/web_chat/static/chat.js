const log = document.getElementById("log");
const question = document.getElementById("question");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
// Both survive a reload of the page, like the conversation on the server.
const thread = (sessionStorage.thread ??= crypto.randomUUID());
log.innerHTML = sessionStorage.log ?? "";
let request = null;

function add(parent, kind, text) {
  const part = document.createElement("div");
  part.className = kind;
  part.textContent = text;
  parent.append(part);
  return part;
}

// The message being written: its complete lines as HTML, which the server has sanitized,
// and the line that is still growing as text.
function message(turn) {
  const last = turn.lastElementChild;
  if (last && last.classList.contains("text")) return last;
  const part = add(turn, "text", "");
  add(part, "markdown", "");
  add(part, "pending", "");
  return part;
}

function plural(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

function show(turn, event) {
  const last = turn.lastElementChild;
  if (event.kind === "text") {
    message(turn).lastElementChild.textContent += event.text;
  } else if (event.kind === "html") {
    const part = message(turn);
    part.firstElementChild.innerHTML = event.html;
    part.lastElementChild.textContent = "";
  } else if (event.kind === "reasoning") {
    if (last && last.classList.contains("reasoning")) last.textContent += event.text;
    else add(turn, "aside reasoning", event.text);
  } else if (event.kind === "done") {
    if (!turn.querySelector(".text, .error")) add(turn, "aside", "The model wrote nothing.");
    const text = `${plural(event.calls, "call")}, ${plural(event.tokens, "token")}`;
    add(turn, "aside done", text);
  } else if (event.kind === "error") {
    add(turn, "error", event.text);
  } else {
    add(turn, `aside ${event.kind}`, event.text);
  }
  turn.scrollIntoView({ block: "end" });
}

async function ask(text) {
  add(log, "turn user", text);
  const turn = add(log, "turn model", "");
  request = new AbortController();
  try {
    const response = await fetch("chat", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ question: text, thread }),
      signal: request.signal,
    });
    if (!response.ok) throw new Error(`The server answered ${response.status}.`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      buffer += value;
      const events = buffer.split("\n\n");
      buffer = events.pop();
      for (const event of events) show(turn, JSON.parse(event.slice(6)));
    }
  } catch (error) {
    if (error.name === "AbortError") add(turn, "aside stopped", "Stopped.");
    else add(turn, "error", String(error.message || error));
    turn.scrollIntoView({ block: "end" });
  }
}

function setBusy(busy) {
  send.hidden = busy;
  stop.hidden = !busy;
}

stop.addEventListener("click", () => request && request.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && request) request.abort();
});

document.getElementById("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (!text || !stop.hidden) return;
  question.value = "";
  setBusy(true);
  await ask(text);
  sessionStorage.log = log.innerHTML;
  setBusy(false);
  question.focus();
});
