// Review without a mouse. A key stands for what is on the page under its name, and for nothing
// while somebody writes.
const shown = (found) => found && found.offsetParent !== null;
const press = (selector, number = 0) => {
  const found = document.querySelectorAll(selector)[number];
  if (!shown(found)) return false;
  found.click();
  return true;
};
const choose = (digit) =>
  press("#score input", digit - 1) || press("#strength input", digit - 1);
const keys = {
  a: () => press("#chosen input", 0),
  b: () => press("#chosen input", 1),
  d: () => press("#declined input"),
  x: () => press("#left-safe input"),
  y: () => press("#right-safe input"),
  s: () => press("#skip"),
  n: () => press("#next"),
  u: () => press("#undo"),
  enter: () => press("#submit") || press("#next"),
};
const writes = (target) =>
  target.closest("textarea, [contenteditable], input:not([type=radio]):not([type=checkbox])");

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.metaKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || writes(event.target)) {
    if (event.ctrlKey && key === "enter" && press("#submit")) event.preventDefault();
    return;
  }
  if (key === "enter" && event.target.closest("button, summary, a")) return;
  const done = /^[1-5]$/.test(key) ? choose(Number(key)) : keys[key]?.();
  if (done) event.preventDefault();
});
