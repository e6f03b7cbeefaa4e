// Gradio refuses a file that is too large before the server hears of it: the page has to be told.
const tell = (files) => {
  if (Array.from(files ?? []).some((file) => file.size > MAX_BYTES)) trigger("clear", {});
};
document.addEventListener("change", (event) => event.target.type === "file" && tell(event.target.files), true);
document.addEventListener("drop", (event) => tell(event.dataTransfer?.files), true);
