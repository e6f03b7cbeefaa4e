// Drawing a box on the image. The handlers belong to the component: its content is replaced with every image.
let corner = null, before = null;

const place = (event) => {
  const svg = element.querySelector("svg");
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const { width, height } = svg.viewBox.baseVal;
  return [Math.min(Math.max(at.x, 0), width), Math.min(Math.max(at.y, 0), height)];
};

const edgesTo = (event) => {
  const [x, y] = place(event);
  return [Math.min(corner[0], x), Math.min(corner[1], y), Math.max(corner[0], x), Math.max(corner[1], y)];
};

const mark = ([left, top, right, bottom]) => {
  const numbers = { x: left, y: top, width: right - left, height: bottom - top };
  for (const rect of element.querySelectorAll("rect")) {
    for (const name in numbers) rect.setAttribute(name, numbers[name]);
  }
};

element.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.target.closest("svg")) return;
  event.preventDefault();
  element.setPointerCapture(event.pointerId);
  corner = place(event);
  const { x, y, width, height } = element.querySelector("rect");
  const [left, top, wide, high] = [x, y, width, height].map((length) => length.baseVal.value);
  before = [left, top, left + wide, top + high];
});

element.addEventListener("pointermove", (event) => {
  if (corner) mark(edgesTo(event));
});

element.addEventListener("pointerup", (event) => {
  if (!corner) return;
  const edges = edgesTo(event);
  const isBox = edges[2] - edges[0] >= 1 && edges[3] - edges[1] >= 1; // and not a click
  corner = null;
  mark(isBox ? edges : before);
  if (isBox) trigger("input", { edges });
});

element.addEventListener("pointercancel", () => {
  if (corner) mark(before);
  corner = null;
});
