"use strict";
// Of a live page alone: asks the server for what is new, and puts it in place of what is there.
(() => {
  const status = document.createElement("p");
  status.id = "live";
  status.setAttribute("role", "status");
  document.body.prepend(status);

  const say = (text) => {
    if (status.textContent !== text) status.textContent = text;
  };

  // What the reader has switched, by the names of charts and of what is in them.
  const name = (chart) => chart.querySelector("h3")?.textContent + chart.querySelector("figcaption").textContent;
  const keysOf = (chart) => [...chart.querySelectorAll(".key")];

  function switched() {
    const charts = new Map();
    for (const chart of document.querySelectorAll(".chart")) {
      const keys = keysOf(chart).map((key) => [key.textContent, key.getAttribute("aria-pressed")]);
      charts.set(name(chart), { keys: new Map(keys), seeds: chart.querySelector("input.seeds")?.checked });
    }
    const open = [...document.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent);
    return { charts, open };
  }

  function switchAgain(before) {
    for (const summary of document.querySelectorAll("details > summary")) {
      if (before.open.includes(summary.textContent)) summary.parentElement.open = true;
    }
    for (const chart of document.querySelectorAll(".chart")) {
      const kept = before.charts.get(name(chart));
      if (!kept || !chart.querySelector(".plot").data || !keysOf(chart).length) continue;
      for (const key of keysOf(chart)) {
        key.setAttribute("aria-pressed", kept.keys.get(key.textContent) ?? key.getAttribute("aria-pressed"));
      }
      const seeds = chart.querySelector("input.seeds");
      if (seeds) seeds.checked = kept.seeds;
      window.report.applyLegend(chart);
    }
  }

  async function renew() {
    const answer = await fetch("/body");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const before = switched();
    const top = window.scrollY;
    // Plotly keeps what it drew until it is told.
    for (const plot of document.querySelectorAll(".js-plotly-plot")) Plotly.purge(plot);
    for (const part of ["header", "main"]) {
      document.querySelector(part).replaceWith(document.adoptNode(fresh.querySelector(part)));
    }
    await window.report.drawAll();
    switchAgain(before);
    window.scrollTo(0, top);
    return answer.headers.get("X-Tag");
  }

  let tag = null;
  let refreshes = 0;

  async function look() {
    let wait = 2;
    try {
      const state = await (await fetch("/state")).json();
      wait = state.wait;
      if (state.said) {
        say(state.said);
      } else {
        if (state.tag !== tag) {
          tag = await renew();
          document.documentElement.dataset.refreshes = ++refreshes;
        }
        say("Live: this page follows the run.");
      }
    } catch (error) {
      say("Nobody answers any more: this is what the run had come to.");
      wait = 5;
    }
    setTimeout(look, wait * 1000);
  }

  window.report.drawn.then(look);
})();
