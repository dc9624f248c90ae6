// Tables that scroll can be reached by keyboard, and the search dialog has a name.
document$.subscribe(() => {
  document.querySelectorAll(".md-typeset__scrollwrap").forEach((table) => {
    table.tabIndex = 0;
    table.setAttribute("role", "region");
    table.setAttribute("aria-label", "Table");
  });
  document.querySelectorAll('[data-md-component="search"]').forEach((search) => {
    search.setAttribute("aria-label", "Search");
  });
});
