function key(cell) {
  const text = cell.textContent.trim().replace(/\u2212/g, "-").replace(/,/g, "");
  const number = parseFloat(text);
  return [Number.isNaN(number) ? text.toLowerCase() : number, text];
}
function compare(a, b) {
  const numbers = [a, b].map(value => typeof value === "number");
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const missing = row => row.cells[column].textContent.trim() === "\u2013";
      rows.sort((a, b) => missing(a) - missing(b) ||
        (descending ? -1 : 1) * compare(key(a.cells[column])[0], key(b.cells[column])[0]));
      table.tBodies[0].append(...rows);
    });
  });
}
