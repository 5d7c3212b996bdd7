// What pages gain where scripts run: buttons that copy, counts of ticked rows, curves to look into.
"use strict";

function addCopiers() {
  for (const text of document.querySelectorAll("pre.copy")) {
    const around = document.createElement("div");
    around.className = "has-copy";
    text.replaceWith(around);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copier";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      button.textContent = (await copy(text)) ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    around.append(text, button);
  }
}

async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {  // no clipboard without TLS on other hosts: select it, and try the old way
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return document.execCommand("copy");
  }
}

function countTicks() {
  for (const form of document.querySelectorAll("form.ticking")) {
    const said = form.querySelector("[data-said]");
    const words = said.textContent;
    const update = () => {
      const count = form.querySelectorAll("input[name=v]:checked").length;
      for (const button of form.querySelectorAll("[data-needs]")) {
        const [least, most] = button.dataset.needs.split("-").map(Number);
        button.disabled = count < least || count > (most || least);
      }
      said.textContent = count ? `${count} chosen` : words;
    };
    form.addEventListener("change", update);
    addEventListener("pageshow", update);  // a browser that goes back ticks what was ticked
    update();
  }
}

function lookAgain(delay = 1000) {
  const section = document.querySelector("[data-again]");
  if (!section) return;
  setTimeout(async () => {
    try {
      const answer = await fetch(section.dataset.again, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("tensors");
      if (answer.ok && fresh) section.replaceWith(document.adoptNode(fresh));
    } catch { /* the server is not there just now */ }
    lookAgain(Math.min(5000, delay * 1.2));
  }, delay);
}

// --- curves

const WHOLE = [0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((one) => one * 10 ** power));

function smoothed(values, share) {
  let last = null;
  return values.map((value) => {
    if (value === null) return null;
    last = last === null ? value : last * share + value * (1 - share);
    return last;
  });
}

function drawCurves(figure) {
  if (!window.uPlot) return;
  const curves = JSON.parse(figure.dataset.curves);
  if (!curves.length) return;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const still = figure.querySelector(".still");
  const strokes = strokesOf(curves, still);
  const tools = document.createElement("div");
  tools.className = "tools";
  const smooth = tick(tools, "Smooth");
  const log = tick(tools, "Logarithmic");
  const hint = document.createElement("span");
  hint.className = "quiet";
  hint.textContent = "Drag to look closer, double-click to see all.";
  tools.append(hint);
  const place = document.createElement("div");
  figure.prepend(tools, place);
  still.hidden = true;
  let plot = null;

  const draw = () => {
    const tables = curves.map((curve) => [
      curve.steps, smooth.checked ? smoothed(curve.values, 0.9) : curve.values,
    ]);
    const font = `12px ${colour("--text")}`;
    const faint = { stroke: colour("--faint"), width: 1 };
    const axis = { stroke: colour("--soft"), grid: faint, ticks: faint, font, labelFont: font };
    plot?.destroy();
    plot = new window.uPlot({
      width: Math.max(240, place.clientWidth),
      height: 340,
      scales: { x: { time: false }, y: { distr: log.checked ? 3 : 1 } },
      axes: [
        { ...axis, label: "optimizer steps", labelSize: 22, incrs: WHOLE },
        { ...axis, size: 60 },
      ],
      series: [
        { label: "step" },
        ...curves.map((curve, index) => ({
          label: curve.label, stroke: strokes[index], width: 2, spanGaps: true,
          dash: curve.dashed ? [6, 4] : undefined, points: { show: curve.values.length < 40, size: 6, fill: colour("--ground") },
          value: (_, value) => (value === null ? "–" : value.toPrecision(5)),
        })),
      ],
    }, window.uPlot.join(tables), place);
  };
  draw();
  for (const box of [smooth, log]) box.addEventListener("change", draw);
  new ResizeObserver(() => {
    if (plot && Math.abs(plot.width - place.clientWidth) > 1) plot.setSize({ width: place.clientWidth, height: 340 });
  }).observe(figure);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    strokes.splice(0, strokes.length, ...strokesOf(curves, still));
    draw();
  });
}

// One colour a version, as the picture below has them; its evaluation is dashed.
function strokesOf(curves, still) {
  const versions = [...new Set(curves.map((curve) => curve.version))];
  return curves.map((curve) => strokeOf(still, versions.indexOf(curve.version)));
}

function strokeOf(still, index) {
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("class", `ms-c${index % 8}`);
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.append(line);
  still.after(drawing);
  const found = getComputedStyle(line).stroke;
  drawing.remove();
  return found;
}

function tick(parent, name) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  label.append(box, name);
  parent.append(label);
  return box;
}

addCopiers();
countTicks();
lookAgain();
for (const figure of document.querySelectorAll("[data-curves]")) drawCurves(figure);
