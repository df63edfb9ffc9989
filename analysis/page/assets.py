"""The page's style and its script, both written into it."""

CSS = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: #222; background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header { margin-bottom: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .75rem; padding-top: .5rem; border-top: 1px solid #ccc; }
h3 { font-size: 1.05rem; line-height: 1.3; margin: 0 0 .5rem; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
a { color: #0b5cad; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1px; margin: 1rem 0 0;
  background: #ccc; border: 1px solid #ccc; }
.tiles div { background: #fff; padding: .5rem .75rem; }
.tiles dt { font-size: .85rem; color: #555; }
.tiles dd { margin: 0; }
.tiles b { font-size: 1.3rem; font-variant-numeric: tabular-nums; display: block; line-height: 1.3; }
.tiles span { color: #555; font-size: .85rem; overflow-wrap: anywhere; }
.figures { columns: 29rem 2; column-gap: 2.5rem; }
figure { margin: 0 0 2rem; break-inside: avoid; }
figure img { display: block; width: 100%; max-width: 36rem; height: auto; margin-bottom: .5rem; }
figcaption, .note { font-size: .875rem; color: #444; line-height: 1.45; overflow-wrap: anywhere; }
.none, .problem { padding: .6rem 1rem; background: #f4f4f4; border-left: 3px solid #999; overflow-wrap: anywhere; }
.problem { border-color: #D55E00; margin: .5rem 0; }
.scroll { overflow-x: auto; border-bottom: 1px solid #ccc; margin-bottom: .5rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; vertical-align: top; }
thead th { border-bottom: 2px solid #222; font-weight: 600; vertical-align: bottom; }
thead button { all: unset; cursor: pointer; font-weight: 600; }
thead button:focus-visible { outline: 2px solid #0b5cad; outline-offset: 2px; }
thead [aria-sort=ascending] button::after { content: " ▲"; }
thead [aria-sort=descending] button::after { content: " ▼"; }
tbody tr + tr > * { border-top: 1px solid #e4e4e4; }
tr > :nth-child(-n+3) { text-align: left; }
tr > :first-child { position: sticky; left: 0; background: #fff; }
tr > .text { text-align: left; white-space: normal; min-width: 9.5rem; max-width: 22rem; }
tr.out > * { color: #767676; }
tbody th { font-weight: 600; }
tr.reproduced > :nth-child(3) { color: #00573f; font-weight: 600; }
tr.not-reproduced > :nth-child(3) { color: #a13d00; font-weight: 600; }
.claims tr > :nth-child(3) { white-space: normal; min-width: 8rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; font-weight: 600; }
"""

SCRIPT = """
function key(cell) {
  const text = cell.textContent.trim().replace(/\\u2212/g, "-").replace(/,/g, "");
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
      const missing = row => row.cells[column].textContent.trim() === "\\u2013";
      rows.sort((a, b) => missing(a) - missing(b) ||
        (descending ? -1 : 1) * compare(key(a.cells[column])[0], key(b.cells[column])[0]));
      table.tBodies[0].append(...rows);
    });
  });
}
"""
