#!/usr/bin/env bash
# Chat templates add sentences that nobody wrote. Llama 3.1 and 3.3 tell the model that today is
# 26 Jul 2024, with or without a system message, unless the request has `date_string` among
# its `chat_template_kwargs`; Qwen2.5 without a system message says that the model was made by
# Alibaba Cloud; gpt-oss adds the date of the server's clock.
#
# Guess: the model reads the messages of the request, and marks between them.
# Why it matters: answers about "today" are years off, the same prompt is not the same tomorrow, and a
# model without a system message introduces itself as somebody else's.
# The templates are those that llama.cpp collects from the models; its Python package has them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jinja2==3.1.6
"$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps \
    --no-binary llama-cpp-python --dest "$folder" llama-cpp-python==0.3.36
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import datetime
import sys
import tarfile
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

(archive,) = Path().glob("llama_cpp_python-*.tar.gz")
TEMPLATES = {}
with tarfile.open(archive) as sdist:
    for member in sdist.getmembers():
        if "/models/templates/" in member.name and member.name.endswith(".jinja"):
            name = Path(member.name).stem
            TEMPLATES[name] = sdist.extractfile(member).read().decode()

TODAY = datetime.date(2031, 2, 3)


def render(name, messages, **settings):
    """Render as transformers and vLLM do, with a clock that shows 2031-02-03."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["strftime_now"] = TODAY.strftime
    template = environment.from_string(TEMPLATES[name])
    values = {"add_generation_prompt": True, "bos_token": "", "eos_token": ""}
    return template.render(messages=messages, **values, **settings)


print("llama-cpp-python 0.3.36, jinja2", jinja2.__version__)
system = {"role": "system", "content": "Be brief."}
user = {"role": "user", "content": "Hi"}
LLAMA = "meta-llama-Llama-3.1-8B-Instruct"
alone, with_system = render(LLAMA, [user]), render(LLAMA, [system, user])
told = render(LLAMA, [user], date_string="03 Feb 2031")
qwen = render("Qwen-Qwen2.5-7B-Instruct", [user])
qwen_told = render("Qwen-Qwen2.5-7B-Instruct", [system, user])
gpt = render("openai-gpt-oss-120b", [user])
facts = {
    "Llama 3.1 says 26 Jul 2024": "26 Jul 2024" in alone,
    "with a system message as well": "26 Jul 2024" in with_system,
    "Llama 3.3 says it, too": "26 Jul 2024" in render("meta-llama-Llama-3.3-70B-Instruct", [user]),
    "but not with date_string": "26 Jul 2024" not in told and "03 Feb 2031" in told,
    "Qwen2.5 says Alibaba Cloud": "Alibaba Cloud" in qwen,
    "but not with a system message": "Alibaba Cloud" not in qwen_told,
    "gpt-oss says the clock's date": "2031-02-03" in gpt,
}
for fact, holds in facts.items():
    print(f"{fact}: {holds}")
sys.exit(None if all(facts.values()) else "This no longer holds.")
PYTHON
