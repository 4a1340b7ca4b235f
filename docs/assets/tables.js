// Tables of the results are sorted by a click on a heading, and what scrolls sideways can be scrolled by keyboard.
"use strict"
const number = /^[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?%?$/i
const words = new Intl.Collator("en", { numeric: true })
const compare = (a, b) =>
  number.test(a) && number.test(b)
    ? parseFloat(a.replaceAll(",", "")) - parseFloat(b.replaceAll(",", ""))
    : words.compare(a, b)

function sort(table, head) {
  const down = head.getAttribute("aria-sort") === "ascending"
  const text = row => row.cells[head.cellIndex].textContent.trim()
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    if (!text(a) || !text(b)) return !text(a) - !text(b)
    return compare(text(a), text(b)) * (down ? -1 : 1)
  })
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort")
  head.setAttribute("aria-sort", down ? "descending" : "ascending")
  table.tBodies[0].append(...rows)
}

function start() {
  for (const table of document.querySelectorAll(".sortable table"))
    for (const head of table.tHead.rows[0].cells) {
      if (!head.textContent) continue
      const button = document.createElement("button")
      button.type = "button"
      button.textContent = head.textContent
      button.addEventListener("click", () => sort(table, head))
      head.replaceChildren(button)
    }
  const wide = ".md-typeset__scrollwrap, .md-typeset pre > code, .sortable, .md-typeset math, .drawing, .md-content__inner"
  for (const box of document.querySelectorAll(wide))
    if (box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible") box.tabIndex = 0
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => requestAnimationFrame(start))
else requestAnimationFrame(start)
