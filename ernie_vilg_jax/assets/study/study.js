// Everything works without this file; it adds keys, enlarged pictures, and the time that an answer took.
"use strict"
const form = document.getElementById("answer")
const large = document.getElementById("large")
let shown = performance.now()
let sent = false

if (form) {
  addEventListener("load", () => { shown = performance.now() })
  addEventListener("pageshow", (event) => { if (event.persisted) { sent = false; shown = performance.now() } })
  form.addEventListener("submit", (event) => {
    // A double click must not answer the next question as well.
    if (sent || performance.now() - shown < 250) { event.preventDefault(); return }
    sent = true
    form.elements.milliseconds.value = Math.round(performance.now() - shown)
  })
}

const keys = { 1: "left", ArrowLeft: "left", 2: "same", ArrowDown: "same", 3: "right", ArrowRight: "right" }
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return
  if (large && large.open) { if (event.key in keys) event.preventDefault(); return }
  const button = form && !event.repeat && form.querySelector(`[value="${keys[event.key]}"]`)
  const link = { Backspace: "back", Enter: "continue" }[event.key]
  const target = button || (link && document.getElementById(link))
  if (target && event.target !== target) { event.preventDefault(); target.click() }
})

for (const link of document.querySelectorAll(".pictures a"))
  link.addEventListener("click", (event) => {
    event.preventDefault()
    large.firstElementChild.src = link.href
    large.showModal()
  })
if (large) large.addEventListener("click", () => large.close())
