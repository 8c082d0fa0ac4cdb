"use strict";
// Tables that sort and filter, and parts that scroll by keyboard. The page says all it has to say without this script.
(() => {
  const PREFIXES = { n: 1e-9, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  const UNITS = { min: 60, h: 3600 };
  const MISSING = new Set(["", "–"]);
  const SORTED_FROM = 2, FILTERED_FROM = 15; // rows
  const NUMBER = /^([+−-]?[\d,]*\.?\d+(?:e[+−-]?\d+)?)\s*(%|[A-Za-zµ]+)?(?:[\s,;(].*)?$/;
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // "1.31 ms" is 0.00131, "98.4 k" is 98400, "exact" is not a number.
  const numberIn = (text) => {
    const found = NUMBER.exec(text);
    if (!found) return NaN;
    const unit = found[2] || "";
    const scale = UNITS[unit] || (/^[nµmkMGT][A-Za-z]?$/.test(unit) && PREFIXES[unit[0]]) || 1;
    return Number(found[1].replaceAll(",", "").replaceAll("−", "-")) * scale;
  };

  // What stands under a figure in smaller letters does not count, unless nothing else is in the cell.
  const textOf = (cell) => {
    const own = [...cell.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    return own.map((node) => node.data).join(" ").trim() || cell.textContent.trim();
  };

  const nameOf = (element) => {
    for (let place = element; place && place.tagName !== "MAIN"; place = place.parentElement) {
      if (place.tagName === "DETAILS") return place.querySelector("summary").textContent;
      for (let before = place.previousElementSibling; before; before = before.previousElementSibling) {
        if (/^H[1-3]$/.test(before.tagName)) return before.textContent;
      }
    }
    return "table";
  };

  const keysOf = (rows, column) => {
    const texts = rows.map((row) => (row.cells[column] ? textOf(row.cells[column]) : ""));
    const numbers = texts.map(numberIn);
    const numeric = texts.every((text, index) => MISSING.has(text) || !Number.isNaN(numbers[index]));
    return new Map(rows.map((row, index) => [row, MISSING.has(texts[index]) ? null : numeric ? numbers[index] : texts[index]]));
  };

  const order = (one, other) => (typeof one === "number" ? one - other : words.compare(one, other));

  // What is missing stands last, whichever way the rest is sorted.
  const sorted = (rows, column, sign) => {
    const keys = keysOf(rows, column);
    return [...rows].sort((one, other) => {
      const [first, second] = [keys.get(one), keys.get(other)];
      if (first === null || second === null) return (first === null) - (second === null);
      return sign * order(first, second);
    });
  };

  const makeSortable = (table, body, rows) => {
    let column = 0;
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    for (const head of heads) {
      column += head.colSpan;
      const at = column - 1;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        for (const each of heads) each.removeAttribute("aria-sort");
        if (now === "descending") return body.append(...rows);
        head.setAttribute("aria-sort", now ? "descending" : "ascending");
        body.append(...sorted(rows, at, now ? -1 : 1));
      });
    }
  };

  const makeFilter = (box, rows) => {
    const line = document.createElement("p");
    const label = document.createElement("label");
    const field = document.createElement("input");
    const count = document.createElement("span");
    const texts = rows.map((row) => row.textContent.toLowerCase());
    line.className = "filter";
    field.type = "search";
    field.setAttribute("aria-label", `Filter the rows of: ${nameOf(box)}`);
    count.setAttribute("role", "status");
    label.append("Filter ", field);
    line.append(label, " ", count);
    box.before(line);
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      let shown = 0;
      rows.forEach((row, index) => {
        row.hidden = !texts[index].includes(wanted);
        shown += row.hidden ? 0 : 1;
      });
      count.textContent = wanted ? `${shown} of ${rows.length} rows` : "";
    });
  };

  for (const box of document.querySelectorAll(".scroll")) {
    const table = box.querySelector("table");
    const body = table && table.tBodies[0];
    if (!table || !table.tHead || !body) continue;
    const rows = [...body.rows];
    if (rows.length >= SORTED_FROM) makeSortable(table, body, rows);
    if (rows.length >= FILTERED_FROM) makeFilter(box, rows);
  }

  // Only what is wider than its place becomes a stop of the Tab key.
  const watcher = new ResizeObserver((changes) => {
    for (const { target } of changes) {
      if (target.scrollWidth > target.clientWidth + 1) {
        target.tabIndex = 0;
        target.setAttribute("role", "group");
        target.setAttribute("aria-label", `${nameOf(target)}: scrolls sideways`);
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) target.removeAttribute(name);
      }
    }
  });
  for (const each of document.querySelectorAll(".scroll, pre, figure:has(.wide)")) watcher.observe(each);
})();
