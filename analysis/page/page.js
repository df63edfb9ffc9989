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

/* What has a data-run is a configuration ("run:SWEEP/2/") or one of its trials ("run:SWEEP/2/00002-s1"). */
const hint = document.getElementById("hint");
const configuration = key => key.slice(0, key.lastIndexOf("/") + 1);
const board = new Map();
for (const row of document.querySelectorAll("#leaderboard tr[data-run]")) board.set(row.dataset.run, row);
for (const mark of document.querySelectorAll("svg [data-run]")) {
  const line = mark.querySelector("path");
  if (!line || line.closest("defs")) continue;
  const target = line.cloneNode();           // as wide as a finger
  target.removeAttribute("clip-path");
  target.setAttribute("style", "fill: none; stroke: transparent; stroke-width: 8; pointer-events: stroke");
  mark.append(target);
}
function describe(key) {
  const row = board.get(configuration(key));
  const trial = key.slice(configuration(key).length);
  if (!row) return trial;
  const heads = [...row.closest("table").tHead.rows[0].cells].map(head => head.textContent);
  const cells = [...row.cells].map((cell, index) => `${heads[index]} ${cell.textContent.trim()}`);
  return (trial ? `trial ${trial}\n` : "") + cells.filter((_, index) => heads[index] !== "run").join("\n");
}
function light(key, event) {
  const wanted = key && configuration(key);
  document.body.classList.toggle("pointing", Boolean(key));
  for (const mark of document.querySelectorAll("[data-run]"))
    mark.classList.toggle("lit", Boolean(key) && configuration(mark.dataset.run) === wanted);
  hint.hidden = !key || !event.target.closest("svg");
  if (hint.hidden) return;
  hint.textContent = describe(key);
  const box = hint.getBoundingClientRect();
  hint.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  hint.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
}
let lit = null;
document.addEventListener("pointerover", event => {
  const mark = event.target.closest("[data-run]");
  const key = mark ? mark.dataset.run : null;
  if (key !== lit) light(lit = key, event);
});
document.addEventListener("keydown", event => { if (event.key === "Escape" && lit) light(lit = null, event); });
