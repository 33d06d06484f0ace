// Draws the figures of a page from the JSON beside them. Without it every page is readable: the numbers are in tables.
"use strict";

const config = { displaylogo: false, responsive: true, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

// Plotly knows no CSS variables: their values of this moment are put in their place.
function coloured(value, style) {
  if (typeof value === "string") {
    const name = value.match(/^var\((--[a-z-]+)\)$/);
    return name ? style.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.every((one) => typeof one === "number" || one === null) ? value : value.map((one) => coloured(one, style));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, coloured(one, style)]));
  }
  return value;
}

function draw(figure) {
  const said = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  const plot = figure.querySelector(".plot");
  const style = getComputedStyle(document.documentElement);
  const narrow = plot.clientWidth < 520;
  const layout = coloured(said.layout, style);
  layout.height = Number(figure.dataset.height);
  layout.font.family = getComputedStyle(document.body).fontFamily;
  layout.colorway = ["--accent", "--second", "--third", "--muted", "--ink"].map((name) => style.getPropertyValue(name).trim());
  if (narrow) {
    layout.font.size = 10;
    layout.dragmode = false;
    for (const name of Object.keys(layout).filter((one) => one.startsWith("yaxis"))) delete layout[name].title;
  }
  const slider = figure.querySelector(".slider");
  const data = coloured(said.data, style);
  if (slider) {
    const input = slider.querySelector("input");
    data[said.steps.trace].y = said.steps.values[input.value];
  }
  Plotly.react(plot, data, layout, config).then(() => {
    figure.dataset.drawn = "yes";
    if (figure.dataset.listens) return;
    figure.dataset.listens = "yes";
    plot.on("plotly_click", (event) => {
      const target = event.points.map((point) => point.customdata).find(Boolean);
      if (typeof target === "string") window.location.assign(target);
    });
    if (slider) listen(slider, plot, said.steps);
  });
}

function listen(slider, plot, steps) {
  const input = slider.querySelector("input");
  const output = slider.querySelector("output");
  slider.hidden = false;
  input.addEventListener("input", () => {
    output.value = steps.labels[input.value];
    input.setAttribute("aria-valuetext", steps.labels[input.value]);
    Plotly.restyle(plot, { y: [steps.values[input.value]] }, [steps.trace]);
  });
}

function drawAll() {
  for (const figure of document.querySelectorAll("figure[data-figure]")) draw(figure);
}

if (window.Plotly) {
  document.documentElement.classList.add("draws");
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}
for (const select of document.querySelectorAll("form select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
