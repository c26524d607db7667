"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // Sorting: a button in a heading of a table with the class "sortable".
  const columnOf = (table, heading) => {
    const [first, second] = table.tHead.rows;
    const below = second ? [...second.cells].indexOf(heading) : -1;
    const single = [...first.cells].filter((cell) => !cell.classList.contains("group")).length;
    return below >= 0 ? single + below : [...first.cells].indexOf(heading);
  };

  const valueOf = (row, column) => {
    const text = row.cells[column].dataset.value;
    if (text === undefined) return null;
    const number = Number(text);
    return text.trim() === "" || Number.isNaN(number) ? text : number;
  };

  const compare = (one, other, sign) => {
    // What is missing stands last, whichever way the others go.
    if (one === null || other === null) return (one === null) - (other === null);
    if (typeof one === "number" && typeof other === "number") return sign * (one - other);
    const [a, b] = [String(one), String(other)];
    return sign * (a < b ? -1 : Number(a > b));
  };

  const sort = (heading) => {
    const table = heading.closest("table");
    const before = heading.getAttribute("aria-sort");
    const numbers = heading.classList.contains("n");
    const first = numbers ? "descending" : "ascending";
    const second = numbers ? "ascending" : "descending";
    const order = before === first ? second : first;
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) {
      other.removeAttribute("aria-sort");
    }
    heading.setAttribute("aria-sort", order);
    const column = columnOf(table, heading);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.sort((a, b) => compare(valueOf(a, column), valueOf(b, column), sign));
    body.append(...rows);
  };

  // Panels: of those in a section, the ones that its selectors name are shown.
  const choose = (section) => {
    const selects = [...section.querySelectorAll("select[data-key]")];
    const panels = [...section.querySelectorAll(".panel")];
    const fits = (panel, select) => panel.dataset[select.dataset.key] === select.value;
    if (selects.length && !panels.some((panel) => selects.every((s) => fits(panel, s)))) {
      // Not every task has every century: the first selector decides, the others follow.
      const nearest = panels.find((panel) => fits(panel, selects[0]));
      for (const select of selects.slice(1)) select.value = nearest.dataset[select.dataset.key];
    }
    for (const panel of panels) panel.hidden = !selects.every((s) => fits(panel, s));
  };

  // Lines: a button of a legend shows and hides one everywhere.
  const show = (index, shown) => {
    for (const line of document.querySelectorAll(`[data-series="${index}"]`)) {
      line.classList.toggle("off", !shown);
    }
    for (const key of document.querySelectorAll(`[data-toggle="${index}"]`)) {
      key.setAttribute("aria-pressed", String(shown));
    }
  };

  const clicked = (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const heading = button.closest("table.sortable thead th");
    if (heading) sort(heading);
    if (button.dataset.toggle !== undefined) {
      show(button.dataset.toggle, button.getAttribute("aria-pressed") !== "true");
    }
    if (button.dataset.show) {
      const keys = button.closest(".legend").querySelectorAll("[data-toggle]");
      for (const key of keys) show(key.dataset.toggle, button.dataset.show === "all");
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("click", clicked);
    for (const section of document.querySelectorAll(".panels")) {
      choose(section);
      section.addEventListener("change", () => choose(section));
    }
  });
})();
