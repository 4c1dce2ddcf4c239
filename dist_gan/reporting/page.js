"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;"); // plotly reads some tags of HTML

// ---- samples over time

function scrubber() {
  const slider = document.getElementById("scrub");
  if (!slider) return;
  const { steps, runs } = read("samples-data");
  const said = document.getElementById("images");
  const play = document.getElementById("play");
  const count = (images) => `${images.toLocaleString("en")} images`;
  let timer = 0;

  function show() {
    const step = Number(slider.value);
    said.textContent = count(steps[step]);
    slider.setAttribute("aria-valuetext", said.textContent);
    for (const run of runs) {
      const grid = run.at[step];
      document.getElementById(run.id).src = run.urls[grid];
      document.getElementById(`${run.id}-images`).textContent = count(run.images[grid]);
    }
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.classList.remove("playing");
    play.setAttribute("aria-label", "Play");
  }

  function next() {
    if (Number(slider.value) >= steps.length - 1) return stop();
    slider.value = Number(slider.value) + 1;
    show();
  }

  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(slider.value) >= steps.length - 1) slider.value = 0;
    show();
    play.classList.add("playing");
    play.setAttribute("aria-label", "Stop");
    timer = setInterval(next, Math.max(60, Math.min(400, 12000 / steps.length)));
  });
  show();
}

// ---- videos

function videos() { // play once they are in view, unless movement is unwelcome
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const watcher = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    watcher.unobserve(entry.target);
    entry.target.play().catch(() => {}); // a browser may forbid it: the controls are there
  }));
  document.querySelectorAll("video").forEach((video) => watcher.observe(video));
}

// ---- charts

function load() { // plotly takes a second to start: only now, so that the page is there before
  if (window.Plotly) return;
  const script = document.createElement("script");
  script.textContent = document.getElementById("plotly").textContent;
  document.head.append(script);
}

const DASHES = ["solid", "dash", "dot", "dashdot"];
const COLORS = 8;

function charts() {
  const { charts, marks, last } = read("charts-data");
  const touch = matchMedia("(pointer: coarse)").matches; // there, a finger on a chart scrolls the page
  const hovers = matchMedia("(hover: hover)").matches;
  const drawn = new Map(); // the element of a chart that was in view -> its data

  function lines(chart, hidden) {
    const all = chart.lines.map((line, i) => ({
      type: "scatter",
      mode: line.points ? "lines+markers" : "lines",
      name: plain(line.name),
      x: line.x,
      y: line.y,
      visible: !hidden.has(i),
      line: { color: color(`--c${line.color % COLORS}`), width: line.dense ? 1 : 1.75, dash: DASHES[line.dash % DASHES.length] },
      marker: { size: 4.5 },
      hovertemplate: `%{y:${chart.format}}`,
    }));
    const best = chart.lines.flatMap((line, i) => (line.best ? [{
      type: "scatter", mode: "markers", x: [line.best[0]], y: [line.best[1]], visible: !hidden.has(i), hoverinfo: "skip",
      marker: { symbol: "star", size: 13, color: color(`--c${line.color % COLORS}`), line: { color: color("--card"), width: 1 } },
    }] : []));
    return [...all, ...best];
  }

  function layout(chart, log) {
    const axis = { gridcolor: color("--faint"), zeroline: false, linecolor: color("--line"), fixedrange: touch };
    const soft = color("--soft");
    const several = marks.some((mark) => mark.run >= 0);
    const paint = (mark) => (several ? color(`--c${mark.run % COLORS}`) : color("--mark"));
    return {
      autosize: true,
      margin: { l: 12, r: 14, t: 16, b: 12 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: soft },
      showlegend: false,
      hovermode: "x unified",
      hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink"), size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: color("--accent") },
      dragmode: touch ? false : "zoom",
      xaxis: {
        ...axis, range: [0, last * 1.01 || 1], tickformat: "~s", nticks: 7, automargin: true, hoverformat: ",d",
        title: { text: "images", standoff: 8, font: { size: 12 } }, unifiedhovertitle: { text: "%{x:,d} images" },
      },
      yaxis: {
        ...axis, type: log ? "log" : "linear", tickformat: log ? ".2~g" : chart.format, nticks: 6, automargin: true,
        rangemode: chart.range, title: { text: plain(chart.unit), standoff: 8, font: { size: 12 } },
      },
      shapes: marks.map((mark) => ({
        type: "line", x0: mark.x, x1: mark.x, yref: "paper", y0: 0, y1: 1,
        line: { color: paint(mark), width: 1, dash: "dot" },
      })),
      annotations: marks.length > 12 ? [] : marks.map((mark) => ({
        x: mark.x, y: 1, yref: "paper", yanchor: "bottom", text: String(mark.number), showarrow: false,
        font: { size: 10, color: paint(mark) },
      })),
    };
  }

  function draw(box) {
    const state = drawn.get(box);
    return Plotly.react(state.plot, lines(state.chart, state.hidden), layout(state.chart, state.log), {
      responsive: true, displaylogo: false, modeBarButtons: [["toImage"]], displayModeBar: hovers ? "hover" : false,
      toImageButtonOptions: { filename: state.chart.title, scale: 3 },
    });
  }

  function begin(box) {
    if (drawn.has(box)) return;
    load();
    const chart = charts[Number(box.dataset.chart)];
    const state = { chart, plot: box.querySelector(".plot"), hidden: new Set(), log: false };
    drawn.set(box, state);
    draw(box).then(() => box.classList.add("drawn"));
  }

  const watcher = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      watcher.unobserve(entry.target);
      begin(entry.target);
    }),
    { rootMargin: "300px" },
  );
  const boxes = [...document.querySelectorAll("[data-chart]")];
  addEventListener("load", () => setTimeout(() => boxes.forEach((box) => watcher.observe(box)), 50));
  boxes.forEach((box) => {
    box.querySelectorAll("[data-line]").forEach((button) => button.addEventListener("click", () => {
      begin(box);
      const { hidden } = drawn.get(box);
      const line = Number(button.dataset.line);
      if (!hidden.delete(line)) hidden.add(line);
      button.setAttribute("aria-pressed", String(!hidden.has(line)));
      draw(box);
    }));
    box.querySelectorAll(".log").forEach((button) => button.addEventListener("click", () => {
      begin(box);
      const state = drawn.get(box);
      state.log = !state.log;
      button.setAttribute("aria-pressed", String(state.log));
      draw(box);
    }));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...drawn.keys()].forEach(draw));
  addEventListener("beforeprint", () => boxes.forEach(begin));
}

scrubber();
videos();
charts();
