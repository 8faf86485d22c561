// Buttons inside a conversation or a table are plain HTML. Which one was used becomes the value
// of the hidden component that this belongs to, as JSON: {act, turn, text}. It then hears `click`.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  if (button.dataset.act === "key") {
    document.querySelector(".sidebar:not(.open) .toggle-button")?.click();
    document.querySelector("#key input")?.focus();
    return;
  }
  const box = button.parentElement.querySelector("textarea");
  props.value = JSON.stringify({
    act: button.dataset.act,
    turn: button.dataset.turn,
    text: box ? box.value : "",
  });
  trigger("click");
});

// The send and stop buttons are pictures alone, drawn anew at every turn.
const names = { "submit-button": "Send", "stop-button": "Stop" };
const name = () => {
  for (const [kind, words] of Object.entries(names))
    for (const button of document.querySelectorAll(`.${kind}:not([aria-label])`))
      button.setAttribute("aria-label", words);
};
new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
name();
