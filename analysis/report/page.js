// What the page can do beyond being read: theme, tabs, sorting, curves of a class, the gallery, links to all of these,
// and a print of what is selected away. No framework, no network.
"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  root.classList.add("js");

  // What was chosen stands in the address, behind the section: #gallery?error=loc&class=3. Each choice has a key and a
  // value of text; whatever an address holds is given to `set`, which takes what it knows.
  const choices = new Map(); // key -> {get, set}, "" being the value of a page just opened
  const remember = (anchor) => {
    const query = new URLSearchParams();
    choices.forEach(({ get }, key) => { if (get() !== "") query.set(key, get()); });
    const text = String(query);
    history.replaceState({ ours: true }, "", `#${anchor}${text && `?${text}`}`);
  };
  const anchorOf = (element) => element.closest("main > section").id;
  const follow = (scrolls) => {
    const [anchor, query] = location.hash.slice(1).split(/\?(.*)/s);
    if (query === undefined) return; // the browser has gone there
    const asked = new URLSearchParams(query);
    choices.forEach(({ get, set, keeps }, key) => {
      const value = asked.get(key) ?? (keeps ? get() : "");
      if (value !== get()) set(value);
    });
    if (scrolls) document.getElementById(anchor)?.scrollIntoView({ behavior: "instant" });
  };

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

  // Contents: what is led to stands below them, however many rows they take; the section that is read is marked.
  const top = document.querySelector(".top");
  new ResizeObserver(() => { root.style.scrollPaddingTop = `${top.offsetHeight + 8}px`; }).observe(top);
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
    let chosen = 0;
    const choose = (number) => {
      chosen = number;
      buttons.forEach((button, n) => {
        button.setAttribute("aria-selected", String(n === number));
        button.tabIndex = n === number ? 0 : -1;
        panels[n].hidden = n !== number;
      });
    };
    const chosenByHand = (number) => {
      choose(number);
      buttons[number].focus();
      remember(anchorOf(box));
    };
    choices.set(box.dataset.key, {
      keeps: true,
      get: () => (chosen ? String(chosen) : ""),
      set: (value) => choose(/^\d+$/.test(value) && buttons[value] ? Number(value) : 0),
    });
    panels.forEach((panel, n) => {
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", buttons[n].id);
    });
    list.addEventListener("click", (event) => {
      const number = buttons.indexOf(event.target.closest("[role=tab]"));
      if (number >= 0) chosenByHand(number);
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const now = buttons.findIndex((button) => button.tabIndex === 0);
      if (step) chosenByHand((now + step + buttons.length) % buttons.length);
      else if (event.key === "Home") chosenByHand(0);
      else if (event.key === "End") chosenByHand(buttons.length - 1);
      else return;
      event.preventDefault();
    });
    list.hidden = buttons.length < 2;
    choose(0);
  }

  // Sorting: numbers first from the top, names from A.
  all("table.sortable").forEach((table, number) => {
    const heads = all("thead tr > *", table);
    const body = table.tBodies[0];
    const first = [...body.rows];
    let sorted = "";
    const sort = (column, up) => {
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const numeric = heads[column].classList.contains("num");
      heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => numeric ? Number(row.cells[column].dataset.value) : row.cells[column].textContent;
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => (numeric ? a - b : a.localeCompare(b)) * (up ? 1 : -1));
      body.append(...rows.map(([, row]) => row));
      sorted = `${column}${up ? "up" : "down"}`;
    };
    heads.forEach((head, column) => head.querySelector(".sort")?.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      sort(column, before ? before === "descending" : !head.classList.contains("num"));
      remember(anchorOf(table));
    }));
    choices.set(`sort${number}`, {
      keeps: true,
      get: () => sorted,
      set: (value) => {
        const [, column, way] = /^(\d+)(up|down)$/.exec(value) ?? [];
        if (heads[column]?.querySelector(".sort")) return sort(Number(column), way === "up");
        heads.forEach((head) => head.removeAttribute("aria-sort"));
        body.append(...first);
        sorted = "";
      },
    });
  });

  // Classes: the rows whose names hold what is typed.
  const find = document.getElementById("find-class");
  if (find) {
    const rows = all("#classes tbody tr");
    const look = () => {
      const asked = find.value.trim().toLowerCase();
      rows.forEach((row) => { row.hidden = !row.cells[0].textContent.toLowerCase().includes(asked); });
      const first = all("tr", rows[0].parentElement);
      const fitting = first.filter((row) => !row.hidden).length;
      document.getElementById("found-classes").textContent = asked && `${fitting} of ${first.length} classes`;
    };
    find.addEventListener("input", look);
    find.addEventListener("change", () => remember("classes"));
    choices.set("find", {
      keeps: true,
      get: () => find.value,
      set: (value) => {
        find.value = value;
        look();
      },
    });
    document.getElementById("find-choice").hidden = false;
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
    const redraw = () => figures.forEach((figure, f) => {
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
    });
    choice.addEventListener("change", () => {
      redraw();
      remember("curves");
    });
    choices.set("curve", {
      keeps: true,
      get: () => choice.value,
      set: (value) => {
        choice.value = value;
        if (choice.selectedIndex < 0) choice.value = "";
        redraw();
      },
    });
    document.getElementById("curve-choice").hidden = false;
  }

  // Gallery: filter, show more, enlarge.
  const filters = document.getElementById("filters");
  const gallery = document.getElementById("gallery");
  const groups = all(".group", gallery).map((element) => ({
    element, cards: all(".example", element), more: element.querySelector(".more"), open: false,
  }));
  const narrow = matchMedia("(max-width: 34rem)");
  const fields = all("select, input[type=number]", filters);
  const clear = document.getElementById("clear");
  const accepts = { // by the name of a field: whether it takes what a card says of itself
    run: (card, value) => card.run.split(" ").includes(value),
    error: (card, value) => card.error === value,
    class: (card, value) => card.class.split(" ").includes(value),
    detected: (card, value) => card.detected === value,
    size: (card, value) => card.size === value,
    from: (card, value) => Number(card.score) >= Number(value),
    to: (card, value) => Number(card.score) <= Number(value),
  };
  let listed = []; // the examples that match, in their order: what the enlarged view walks through
  const refresh = () => {
    const asked = fields.filter((field) => field.value !== "").map((field) => [accepts[field.name], field.value]);
    const matches = (card) => asked.every(([accept, value]) => accept(card.dataset, value));
    listed = [];
    let total = 0;
    for (const group of groups) {
      const fitting = group.cards.filter(matches);
      const isAsked = asked.length && filters.elements.error.value === group.element.dataset.error;
      const first = isAsked ? Infinity : narrow.matches ? 4 : Number(group.element.dataset.first);
      const visible = new Set(group.open ? fitting : fitting.slice(0, first));
      group.cards.forEach((card) => { card.hidden = !visible.has(card); });
      group.element.hidden = fitting.length === 0;
      group.more.hidden = visible.size === fitting.length;
      group.more.textContent = `Show all ${fitting.length}`;
      listed.push(...fitting);
      total += group.cards.length;
    }
    clear.hidden = !asked.length;
    document.getElementById("shown").textContent = `${listed.length} of ${total} examples`;
  };
  const filtered = () => {
    groups.forEach((group) => { group.open = false; });
    refresh();
    remember("gallery");
  };
  fields.forEach((field) => choices.set(field.name, {
    get: () => field.value,
    set: (value) => {
      const number = value !== "" && Number.isFinite(Number(value)) ? String(Number(value)) : "";
      field.value = field.type === "number" ? number : value;
      if (field.selectedIndex < 0) field.value = ""; // it is no option
      groups.forEach((group) => { group.open = false; });
      refresh();
    },
  }));
  groups.forEach((group) => group.more.addEventListener("click", () => {
    const next = group.cards.find((card) => card.hidden && listed.includes(card));
    group.open = true;
    refresh();
    next?.querySelector(".open").focus();
  }));
  filters.addEventListener("change", (event) => {
    gallery.classList.toggle("hide-marks", !document.getElementById("show-marks").checked);
    gallery.classList.toggle("hide-others", !document.getElementById("show-others").checked);
    if (fields.includes(event.target)) filtered();
  });
  filters.addEventListener("submit", (event) => event.preventDefault());
  clear.addEventListener("click", () => {
    fields.forEach((field) => { field.value = ""; });
    filtered();
    fields[0].focus();
  });
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
    for (const way of ["previous", "next"]) document.getElementById(way).disabled = listed.length < 2;
    if (!viewer.open) viewer.showModal();
  };
  const step = (by) => {
    enlarge(current + by);
    remember("gallery");
  };
  choices.set("example", {
    get: () => (viewer.open ? listed[current].id.replace("example-", "") : ""),
    set: (value) => {
      const number = listed.findIndex((card) => card.id === `example-${value}`);
      opener = listed[number]?.querySelector(".open");
      if (number >= 0) enlarge(number);
      else viewer.close();
    },
  });
  gallery.addEventListener("click", (event) => {
    const pressed = event.target.closest("button.open");
    if (!pressed) return;
    opener = pressed;
    enlarge(listed.indexOf(opener.closest(".example")));
    remember("gallery");
  });
  document.getElementById("previous").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));
  document.getElementById("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => {
    opener?.focus();
    if (location.hash.includes("example=")) remember("gallery");
  });

  // Numbers that have pictures lead to them.
  for (const cell of all("[data-filter]")) {
    const link = document.createElement("a");
    link.className = "pictures";
    link.href = `#gallery?${cell.dataset.filter}`;
    link.title = [cell.title, "its examples in the gallery"].filter(Boolean).join("; ");
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      history.replaceState({ ours: true, top: scrollY }, "");
      history.pushState({ ours: true }, "", link.href);
      follow(true);
      listed[0]?.querySelector(".open").focus({ preventScroll: true });
    });
    link.append(...[...cell.childNodes].filter((node) => !node.classList?.contains("interval")));
    cell.prepend(link);
    cell.removeAttribute("title");
  }

  // Tables that are wider than their place say so, and only they are stops of the Tab key.
  for (const box of all(".scroller")) {
    const region = box.querySelector(".scroll");
    const look = () => {
      const rest = region.scrollWidth - region.clientWidth;
      box.classList.toggle("more-left", region.scrollLeft > 1);
      box.classList.toggle("more-right", region.scrollLeft < rest - 1);
      box.classList.toggle("more-below", region.scrollTop < region.scrollHeight - region.clientHeight - 1);
      if (rest > 1 || region.scrollHeight > region.clientHeight + 1) region.tabIndex = 0;
      else region.removeAttribute("tabindex");
    };
    region.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(region);
  }

  // A print holds what is selected away on the screen: panels and cards by the style, folded lists and pictures here.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((one) => { one.open = true; });
    all("img[loading=lazy]").forEach((image) => { image.loading = "eager"; });
  });
  addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));

  // Back from the pictures to where the reader was; an address that was typed leads to its section.
  addEventListener("hashchange", () => {
    follow(!history.state?.ours);
    if (history.state?.top !== undefined) scrollTo({ top: history.state.top, behavior: "instant" });
  });
  follow(true);
})();
