"use strict";
// Without this script the page shows the same: details at its lower edge, and the Tab key from cell
// to cell.
const table = document.querySelector(".heat");
if (table) {
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].filter((cell) => cell.matches("td")));
  const heads = [...table.tHead.rows[0].cells].slice(1);
  const cells = rows.flat();
  const indexes = new Map(rows.flatMap((row, y) => row.map((cell, x) => [cell, [y, x]])));
  cells.forEach((cell, index) => (cell.tabIndex = index === 0 ? 0 : -1));

  const mark = (cell, on) => {
    const [y, x] = indexes.get(cell);
    heads[x].classList.toggle("at", on);
    rows[y][0].parentElement.cells[0].classList.toggle("at", on);
  };

  // Beside the cell where there is room, else at that edge of the window which is further from it.
  const place = (cell) => {
    const tip = cell.querySelector(".tip");
    const at = cell.getBoundingClientRect();
    tip.classList.remove("placed");
    tip.removeAttribute("style");
    if (innerWidth < 640) {
      if (at.top > innerHeight / 2) tip.style.cssText = "top: 1rem; bottom: auto";
      return;
    }
    tip.classList.add("placed");
    const size = tip.getBoundingClientRect();
    const right = at.right + 10;
    const left = right + size.width < innerWidth - 8 ? right : at.left - size.width - 10;
    const top = Math.min(at.top - 8, innerHeight - size.height - 10);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };

  const cellOf = (event) => event.target instanceof Element && event.target.closest(".heat tbody td");
  const show = (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    mark(cell, true);
    place(cell);
  };
  const hide = (event) => {
    const cell = cellOf(event);
    if (cell) mark(cell, false);
  };
  table.addEventListener("mouseover", show);
  table.addEventListener("mouseout", hide);
  table.addEventListener("focusin", show);
  table.addEventListener("focusout", hide);
  addEventListener("scroll", () => document.activeElement?.matches?.(".heat td") && place(document.activeElement), {
    passive: true,
  });

  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  table.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    if (event.key === "Escape") cell.blur();
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const [y, x] = indexes.get(cell);
    const next = rows[y + step[0]]?.[x + step[1]];
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
