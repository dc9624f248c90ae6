// Tables that scroll can be reached by keyboard, and every landmark has a name of its own.
document$.subscribe(() => {
  const name = (selector, text) =>
    document.querySelectorAll(selector).forEach((element, index) => {
      element.setAttribute("aria-label", `${text} ${index + 1}`);
    });
  document.querySelectorAll(".md-typeset__scrollwrap").forEach((table) => {
    table.tabIndex = 0;
    table.setAttribute("role", "region");
  });
  name(".md-typeset__scrollwrap", "Table");
  name(".md-code__nav", "Code");
  name(".md-nav--secondary", "Contents");
  name('[data-md-component="search"]', "Search");
});
