// What the page can do beyond being read: theme, tabs, sorting, curves of a class, the gallery. No framework, no network.
"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  root.classList.add("js");

  // Theme: the system's until a reader chooses; the choice is kept where the browser lets a local file keep it.
  const themes = ["system", "light", "dark"];
  const themeButton = document.getElementById("theme");
  const kept = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("detablate-theme");
      localStorage.setItem("detablate-theme", value);
    } catch { /* a private window: not kept */ }
    return null;
  };
  const setTheme = (name) => {
    root.dataset.theme = name;
    themeButton.textContent = `Theme: ${name}`;
  };
  setTheme(themes.includes(kept()) ? kept() : "system");
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    setTheme(next);
    kept(next);
  });

  // Contents: mark the section that is read.
  const links = new Map(all(".top a").map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  all("main > section").forEach((section) => watcher.observe(section));

  // Tabs: one panel at a time, arrow keys between them.
  for (const box of all(".tabs")) {
    const list = box.querySelector("[role=tablist]");
    const buttons = all("[role=tab]", list);
    const panels = all(":scope > .panel", box);
    const choose = (number, focus) => buttons.forEach((button, n) => {
      button.setAttribute("aria-selected", String(n === number));
      button.tabIndex = n === number ? 0 : -1;
      panels[n].hidden = n !== number;
      if (n === number && focus) button.focus();
    });
    panels.forEach((panel, n) => {
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", buttons[n].id);
    });
    list.addEventListener("click", (event) => {
      const number = buttons.indexOf(event.target.closest("[role=tab]"));
      if (number >= 0) choose(number, false);
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const now = buttons.findIndex((button) => button.tabIndex === 0);
      if (step) choose((now + step + buttons.length) % buttons.length, true);
      else if (event.key === "Home") choose(0, true);
      else if (event.key === "End") choose(buttons.length - 1, true);
      else return;
      event.preventDefault();
    });
    list.hidden = buttons.length < 2;
    choose(0, false);
  }

  // Sorting: numbers first from the top, names from A.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    const body = table.tBodies[0];
    heads.forEach((head, column) => head.querySelector(".sort")?.addEventListener("click", () => {
      const numeric = head.classList.contains("num");
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numeric;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => numeric ? Number(row.cells[column].dataset.value) : row.cells[column].textContent;
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => (numeric ? a - b : a.localeCompare(b)) * (up ? 1 : -1));
      body.append(...rows.map(([, row]) => row));
    }));
  }

  // Curves of one class, drawn over those of the mean.
  const choice = document.getElementById("curve-category");
  if (choice) {
    const figures = all("#curve-figures figure");
    const means = figures.map((figure) => ({
      lines: all("polyline", figure).map((line) => line.getAttribute("points")),
      marks: all(".marks > g", figure).map((mark) => mark.innerHTML),
      text: figure.querySelector("figcaption").lastChild.textContent,
      label: figure.querySelector("svg").getAttribute("aria-label"),
    }));
    Object.entries(data.categories)
      .sort(([, a], [, b]) => a.localeCompare(b))
      .forEach(([id, name]) => choice.append(new Option(name, id)));
    const decode = (text) => Array.from({ length: text.length / 2 }, (_, n) => parseInt(text.substr(2 * n, 2), 36) / 1000);
    const grid = (figure) => {
      const [left, bottom, right, top] = figure.dataset.frame.split(" ").map(Number);
      return (x, y) => [left + (right - left) * x, bottom + (top - bottom) * y];
    };
    choice.addEventListener("change", () => figures.forEach((figure, f) => {
      const caption = figure.querySelector("figcaption").lastChild;
      const drawing = figure.querySelector("svg");
      const place = grid(figure);
      const averages = data.runs.map((name, run) => {
        const line = all("polyline", figure)[run];
        const mark = all(".marks > g", figure)[run];
        if (choice.value === "") {
          line.setAttribute("points", means[f].lines[run]);
          mark.innerHTML = means[f].marks[run];
          return ["", 0];
        }
        const y = decode(data.curves[figure.dataset.iou][run][choice.value]);
        const points = y.map((value, n) => place(n / (y.length - 1), value));
        line.setAttribute("points", points.map((point) => point.map((side) => side.toFixed(1)).join(",")).join(" "));
        const above = points.filter((_, n) => y[n] > 0.04);
        const marked = above.length ? above : points;
        const [x, height] = marked[Math.floor((marked.length - 1) * (0.15 + 0.7 * (run + 0.5) / data.runs.length))];
        mark.querySelector("circle").setAttribute("cx", x);
        mark.querySelector("circle").setAttribute("cy", height);
        mark.querySelector("text").setAttribute("x", x);
        mark.querySelector("text").setAttribute("y", height + 3.6);
        return [name, (100 * y.reduce((a, b) => a + b, 0) / y.length).toFixed(1)];
      });
      const name = choice.selectedOptions[0].text;
      const short = averages.map(([, value], run) => `${data.letters[run]} ${value}`).join(" · ");
      const long = averages.map(([run, value]) => `${run} ${value}`).join(", ");
      caption.textContent = choice.value === "" ? means[f].text : ` AP of ${name}: ${short}`;
      drawing.setAttribute("aria-label", choice.value === "" ? means[f].label
        : `Precision against recall of ${name} at IoU ${figure.dataset.iou}: ${long}`);
    }));
    document.getElementById("curve-choice").hidden = false;
  }

  // Gallery: filter, show more, enlarge.
  const filters = document.getElementById("filters");
  const gallery = document.getElementById("gallery");
  const groups = all(".group", gallery).map((element) => ({
    element, cards: all(".example", element), more: element.querySelector(".more"), open: false,
  }));
  const narrow = matchMedia("(max-width: 34rem)");
  const chosen = (name) => document.getElementById(`filter-${name}`).value;
  const matches = (card) =>
    (chosen("run") === "" || card.dataset.run === chosen("run")) &&
    (chosen("error") === "" || card.dataset.error === chosen("error")) &&
    (chosen("category") === "" || card.dataset.categories.split(" ").includes(chosen("category")));
  let listed = []; // the examples that match, in their order: what the enlarged view walks through
  const refresh = () => {
    listed = [];
    let total = 0;
    for (const group of groups) {
      const fitting = group.cards.filter(matches);
      const first = chosen("error") === group.element.dataset.error ? Infinity : narrow.matches ? 4 : Number(group.element.dataset.first);
      const visible = new Set(group.open ? fitting : fitting.slice(0, first));
      group.cards.forEach((card) => { card.hidden = !visible.has(card); });
      group.element.hidden = fitting.length === 0;
      group.more.hidden = visible.size === fitting.length;
      group.more.textContent = `Show all ${fitting.length}`;
      listed.push(...fitting);
      total += group.cards.length;
    }
    document.getElementById("shown").textContent = `${listed.length} of ${total} examples`;
  };
  groups.forEach((group) => group.more.addEventListener("click", () => {
    const next = group.cards.filter(matches).find((card) => card.hidden);
    group.open = true;
    refresh();
    next?.querySelector(".open").focus();
  }));
  filters.addEventListener("change", () => {
    groups.forEach((group) => { group.open = false; });
    gallery.classList.toggle("hide-marks", !document.getElementById("show-marks").checked);
    gallery.classList.toggle("hide-others", !document.getElementById("show-others").checked);
    refresh();
  });
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.hidden = groups.length === 0;
  refresh();

  const viewer = document.getElementById("viewer");
  const large = document.getElementById("large");
  let current = -1;
  let opener = null;
  const enlarge = (number) => {
    current = (number + listed.length) % listed.length;
    const copy = listed[current].querySelector("figure").cloneNode(true);
    const view = copy.querySelector(".view");
    const open = copy.querySelector(".open");
    view.setAttribute("role", "img");
    view.setAttribute("aria-label", open.getAttribute("aria-label").replace("Enlarge: ", ""));
    view.querySelector("img")?.setAttribute("loading", "eager");
    open.remove();
    const holder = document.createElement("div");
    holder.className = "example";
    holder.append(copy);
    large.replaceChildren(holder);
    document.getElementById("place").textContent = `${current + 1} of ${listed.length}`;
  };
  gallery.addEventListener("click", (event) => {
    opener = event.target.closest("button.open");
    if (!opener) return;
    enlarge(listed.indexOf(opener.closest(".example")));
    viewer.showModal();
  });
  document.getElementById("previous").addEventListener("click", () => enlarge(current - 1));
  document.getElementById("next").addEventListener("click", () => enlarge(current + 1));
  document.getElementById("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") enlarge(current - 1);
    if (event.key === "ArrowRight") enlarge(current + 1);
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => opener?.focus());
})();
