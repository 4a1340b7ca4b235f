"use strict";
(() => {
  // The buttons are named, since one of plotly's own shares the chart over the network.
  const CONFIG = {
    responsive: true,
    displaylogo: false,
    displayModeBar: "hover",
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["resetScale2d"]],
    plotlyServerURL: "",
  };

  // The style sheet alone knows the colours of light and dark.
  function template() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--rule"), tickcolor: colour("--rule") };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily, size: 12.5 },
        xaxis: axis,
        yaxis: axis,
        hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { color: colour("--ink") } },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--ink") },
      },
    };
  }

  // Curves of a legend's entries that are off are not drawn; single seeds follow their entry and the tick box.
  function applyLegend(chart) {
    const plot = chart.querySelector(".plot");
    const on = [...chart.querySelectorAll(".key")].map((key) => key.getAttribute("aria-pressed") === "true");
    const seeds = chart.querySelector("input.seeds");
    const visible = plot.data.map((t) => on[t.meta.group] && (t.meta.kind !== "seeds" || seeds.checked));
    Plotly.restyle(plot, { visible });
  }

  function wireLegend(chart) {
    const keys = [...chart.querySelectorAll(".key")];
    const press = (key, on) => key.setAttribute("aria-pressed", String(on));
    for (const key of keys) {
      key.title = key.textContent;
      key.addEventListener("click", () => {
        press(key, key.getAttribute("aria-pressed") !== "true");
        applyLegend(chart);
      });
    }
    for (const button of chart.querySelectorAll(".tools button")) {
      button.addEventListener("click", () => {
        for (const key of keys) press(key, button.dataset.all);
        applyLegend(chart);
      });
    }
    chart.querySelector("input.seeds")?.addEventListener("change", () => applyLegend(chart));
  }

  async function draw(chart) {
    const figure = JSON.parse(chart.querySelector("script").textContent);
    figure.layout.template = template();
    await Plotly.newPlot(chart.querySelector(".plot"), figure.data, figure.layout, CONFIG);
    wireLegend(chart);
  }

  function wireChoice(choice) {
    const charts = [...choice.querySelectorAll(".chart")];
    const show = async (chosen) => {
      charts.forEach((chart, i) => (chart.hidden = i !== chosen));
      if (!charts[chosen].querySelector(".plot").data) await draw(charts[chosen]);
    };
    const select = choice.querySelector("select");
    select.addEventListener("change", () => show(select.selectedIndex));
    select.selectedIndex = 0;
    return show(0);
  }

  function wireTable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.addEventListener("click", () => {
        const numeric = head.classList.contains("n");
        const before = head.getAttribute("aria-sort");
        const way = before === "ascending" ? -1 : 1;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
        const order = (row) => row.cells[column].dataset.order;
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [left, right] = [order(a), order(b)];
          if (!left || !right) return (left ? 0 : 1) - (right ? 0 : 1); // what is missing stays below
          return way * (numeric ? left - right : left.localeCompare(right, undefined, { numeric: true }));
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  // Everything that the document holds now: at first, and after a live page has changed it.
  async function drawAll() {
    document.querySelectorAll("table.sortable").forEach(wireTable);
    for (const chart of document.querySelectorAll(".chart")) if (!chart.closest(".choice")) await draw(chart);
    for (const choice of document.querySelectorAll(".choice")) await wireChoice(choice);
  }

  async function main() {
    await drawAll();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const plot of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(plot, { template: template() });
    });
    document.documentElement.dataset.drawn = Math.round(performance.now()); // milliseconds since the page was asked for
  }

  window.report = { applyLegend, drawAll, drawn: main() };
})();
