"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const GAP = 12; // pixels between cards
  const LEAST = { alone: 220, beside: 400 }; // pixels of a card's width
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("index").textContent);
  const beside = data.kinds.length > 0;
  const grid = byId("grid"), filters = byId("filters"), details = byId("details");
  const cards = new Map(); // by position among those found
  const unfilled = new Set(); // cards whose image has not been read yet
  let found = [], columns = 1, cardWidth = 0, imageHeight = 0, rowHeight = 1, current = 0, large = 0;

  // ---- small helpers ----
  function make(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }
  function draw(parent, tag, attributes, text) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  const percent = (value) => (value === null ? "–" : (100 * value).toFixed(1));
  const plural = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
  const kind = () => byId("kind").value;
  const result = (person) => person.results && person.results[kind()];
  const sizeOf = (person) =>
    person.area === null ? "unknown" : data.sizes.findLast(([, least]) => person.area >= least)[0];
  const name = (person) => person.captions[0] || "no caption";
  const problemNames = (person) => [...new Set(person.problems.map(([index]) => data.problems[index]))];
  const outcomeOf = (person) => {
    if (!person.results) return "not evaluated";
    const own = result(person);
    return own ? (own.outcome === null ? "no mask" : data.outcomes[own.outcome]) : "nothing found";
  };

  // ---- filters ----
  function options(id, entries) {
    byId(id).replaceChildren(...entries.map(([value, text]) => make("option", { value, textContent: text })));
  }
  function counted(values) { // [[value, "value (number)"]] in the order of first sight
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
    return [...counts].map(([value, count]) => [value, `${value} (${count.toLocaleString("en")})`]);
  }
  const byOrder = (order) => ([a], [b]) => order.indexOf(a) - order.indexOf(b);
  function fillOptions() {
    const all = data.people;
    options("file", [["", "all"], ...counted(all.map((p) => data.files[p.file].name))]);
    options("size", [["", "any"], ...counted(all.map(sizeOf)).sort(byOrder([...data.sizes.map(([size]) => size), "unknown"]))]);
    options("people", [["", "any number"], ...counted(all.map((p) => String(p.people))).sort(([a], [b]) => a - b)]);
    byId("people").querySelectorAll("option:not(:first-child)").forEach((option) => {
      option.textContent = option.textContent.replace(" (", option.value === "1" ? " person (" : " people (");
    });
    const wrong = all.filter((p) => p.problems.length).length;
    options("problem", [
      ["", "any or none"],
      ["none", `none (${(all.length - wrong).toLocaleString("en")})`],
      ["any", `any (${wrong.toLocaleString("en")})`],
      ...counted(all.flatMap(problemNames)).sort(byOrder(data.problems)).map(([value, text]) => [`=${value}`, text]),
    ]);
    options("kind", data.kinds.map((value) => [value, value]));
    const orders = [["", "as in the file"], ["smallest", "smallest first"], ["largest", "largest first"]];
    const byError = [
      ["quality", "IoU + OKS, lowest first"], ["iou", "mask IoU, lowest first"], ["oks", "OKS, lowest first"],
    ];
    options("order", beside ? [...byError, ...orders] : orders);
    byId("file").parentElement.hidden = data.files.length < 2;
    document.querySelectorAll("[data-results]").forEach((label) => { label.hidden = !beside; });
  }
  function fillOutcomes() {
    const chosen = byId("outcome").value;
    const order = [...data.outcomes, "no mask", "nothing found", "not evaluated"];
    options("outcome", [["", "anybody"], ...counted(data.people.map(outcomeOf)).sort(byOrder(order))]);
    byId("outcome").value = chosen;
    if (byId("outcome").selectedIndex < 0) byId("outcome").value = "";
  }
  const searched = (person) => {
    person.searched ??= [...person.captions, person.name, person.id, person.annotation].join("\n").normalize("NFC").toLowerCase();
    return person.searched;
  };
  const KEYS = {
    smallest: (p) => p.area ?? Infinity,
    largest: (p) => -(p.area ?? -Infinity),
    // Who was not asked for comes last, who was not found first.
    quality: (p) => (p.results ? result(p)?.quality ?? 0 : Infinity),
    iou: (p) => (p.results ? (result(p) ? result(p).iou ?? Infinity : 0) : Infinity),
    oks: (p) => (p.results ? (result(p) ? result(p).oks ?? Infinity : 0) : Infinity),
  };
  function apply() {
    const words = byId("text").value.normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean);
    const file = byId("file").value, size = byId("size").value, people = byId("people").value;
    const problem = byId("problem").value, outcome = byId("outcome").value, order = byId("order").value;
    found = data.people.filter((p) =>
      words.every((word) => searched(p).includes(word)) &&
      (!file || data.files[p.file].name === file) &&
      (!size || sizeOf(p) === size) &&
      (!people || String(p.people) === people) &&
      (!problem || (problem === "none" ? !p.problems.length : problem === "any" ? p.problems.length : problemNames(p).includes(problem.slice(1)))) &&
      (!outcome || outcomeOf(p) === outcome));
    if (KEYS[order]) {
      const keys = new Map(found.map((p) => [p, KEYS[order](p)]));
      found.sort((a, b) => (keys.get(a) < keys.get(b) ? -1 : keys.get(a) > keys.get(b) ? 1 : a.number - b.number));
    }
    current = 0;
    byId("count").textContent = `${found.length.toLocaleString("en")} of ${plural(data.people.length, "person", "people")}`;
    byId("nobody").hidden = found.length > 0;
    renew();
  }

  // ---- cards: those in view, and a row before and after ----
  function renew() {
    cards.forEach((card) => card.remove());
    cards.clear();
    unfilled.clear();
    layout();
  }
  function layout() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = grid.clientWidth;
    columns = Math.max(1, Math.floor((width + GAP) / (LEAST[beside ? "beside" : "alone"] + GAP)));
    cardWidth = (width - GAP * (columns - 1)) / columns;
    imageHeight = Math.round((beside ? cardWidth / 2 : cardWidth) * 0.75);
    rowHeight = imageHeight + Math.ceil((beside ? 7.1 : 5.9) * rem) + GAP;
    grid.style.height = `${Math.ceil(found.length / columns) * rowHeight}px`;
    cards.forEach(place);
    refresh();
  }
  function place(card, position) {
    const column = position % columns, row = Math.floor(position / columns);
    card.style.transform = `translate(${column * (cardWidth + GAP)}px, ${row * rowHeight}px)`;
    card.style.width = `${cardWidth}px`;
    card.style.height = `${rowHeight - GAP}px`;
    card.querySelectorAll(".image").forEach((image) => { image.style.height = `${imageHeight}px`; });
  }
  function refresh() {
    const top = -grid.getBoundingClientRect().top;
    const first = Math.max(0, (Math.floor(top / rowHeight) - 1) * columns);
    const last = Math.min(found.length, (Math.ceil((top + innerHeight) / rowHeight) + 1) * columns);
    for (const [position, card] of cards) {
      const outside = position < first || position >= last;
      if (outside && !card.contains(document.activeElement)) {
        cards.delete(position);
        unfilled.delete(card);
        card.remove();
      }
    }
    let after = grid.firstChild;
    for (let position = first; position < last; position++) {
      let card = cards.get(position);
      while (after && after.position < position) after = after.nextSibling; // the focused one
      if (card && card === after) {
        after = after.nextSibling;
      } else if (!card) {
        card = newCard(position);
        cards.set(position, card);
        grid.insertBefore(card, after);
      }
    }
    fill();
  }
  function newCard(position) {
    const person = found[position];
    const images = make("span", { className: "images" });
    const words = make("span", { className: "words" });
    const caption = make("span", { className: person.captions.length ? "caption" : "caption none", textContent: name(person), dir: "auto" });
    words.append(caption);
    if (beside) {
      const own = result(person), outcome = own ? own.outcome ?? "none" : "none";
      const scores = own ? `IoU ${percent(own.iou)} % · OKS ${percent(own.oks)} % · ` : "";
      words.append(make("span", { className: `scores outcome-${outcome}`, textContent: scores + outcomeOf(person) }));
    }
    const facts = [`id ${person.id}`, plural(person.people, "person", "people"), sizeOf(person)];
    words.append(make("span", { className: "facts", textContent: facts.join(" · ") }));
    const problems = problemNames(person);
    if (problems.length) {
      words.append(make("span", { className: "problems", textContent: `⚠ ${problems.join(", ")}`, title: problems.join("\n") }));
    }
    const button = make("button", { type: "button", className: "card", tabIndex: position === current ? 0 : -1 }, images, words);
    button.addEventListener("click", () => { current = position; open(); });
    button.addEventListener("focus", () => { mark(position); });
    const item = make("div", { className: "item", position }, button);
    item.setAttribute("role", "listitem");
    item.setAttribute("aria-posinset", position + 1);
    item.setAttribute("aria-setsize", found.length);
    for (let i = 0; i < (beside ? 2 : 1); i++) images.append(make("span", { className: "image" }));
    place(item, position);
    unfilled.add(item);
    return item;
  }
  function fill() {
    for (const card of unfilled) {
      const person = found[card.position], content = read(person);
      if (!content) continue; // still being loaded
      unfilled.delete(card);
      const images = [annotated(person, content)];
      if (beside) images.push(predicted(person, content));
      card.querySelector(".images").replaceChildren(...images);
      place(card, card.position);
    }
  }
  function read(person) { // the image and its shapes, once the browser has read that far
    const block = byId(`image-${person.image}`);
    if (!block || (document.readyState === "loading" && !block.nextElementSibling)) return null;
    const content = JSON.parse(block.textContent);
    return { ...content, own: content.people[person.number] };
  }
  function whileLoading() {
    fill();
    if (document.readyState === "loading") setTimeout(whileLoading, 50);
  }

  // ---- images ----
  function newImage(content, label) {
    const [width, height] = content.size;
    const image = document.createElementNS(SVG, "svg");
    image.classList.add("image");
    image.setAttribute("viewBox", `0 0 ${width} ${height}`);
    image.setAttribute("role", "img");
    image.setAttribute("aria-label", label);
    if (content.thumbnail) {
      draw(image, "image", { href: content.thumbnail, width, height, preserveAspectRatio: "none" });
    } else {
      draw(image, "text", { x: width / 2, y: height / 2, "font-size": width / 16 }, "no image");
    }
    return image;
  }
  function annotated(person, content) {
    const image = newImage(content, `Annotation: ${name(person)}`);
    addShape(image, content.own, data.files[person.file].keypoints);
    content.own.strokes.forEach((stroke, index) => addStroke(image, stroke, index === 0));
    return image;
  }
  function predicted(person, content) {
    const own = content.own.results[kind()];
    const image = newImage(content, `Prediction of the ${kind()} prompt: ${outcomeOf(person)}`);
    if (own) {
      addShape(image, own, data.files[person.file].keypoints);
      if (own.prompt.length) addStroke(image, own.prompt, true);
    } else {
      const [width, height] = content.size;
      draw(image, "text", { x: width / 2, y: height / 2, "font-size": width / 16 }, outcomeOf(person));
    }
    return image;
  }
  const group = (image, layer) => draw(image, "g", { class: `layer-${layer}` });
  function addShape(image, shape, keypoints) {
    if (shape.mask.length) {
      const d = shape.mask.map((polygon) => `M${polygon.join(" ")}Z`).join("");
      draw(group(image, "mask"), "path", { class: "area", d });
    }
    if (shape.box) {
      const [x, y, width, height] = shape.box, layer = group(image, "box");
      for (const style of ["shade", "rim"]) {
        draw(layer, "rect", { class: style, x, y, width: Math.max(0, width), height: Math.max(0, height) });
      }
    }
    addPose(group(image, "pose"), shape.pose, keypoints);
  }
  function addPose(layer, pose, keypoints) {
    const at = (index) => `${pose[3 * index]} ${pose[3 * index + 1]}`;
    const seen = (index) => pose[3 * index + 2] > 0;
    const bones = new Map(), joints = new Map();
    const add = (map, color, d) => map.set(color, (map.get(color) || "") + d);
    let hidden = "";
    for (const [start, end, color] of keypoints.bones) {
      if (seen(start) && seen(end)) add(bones, color, `M${at(start)}L${at(end)}`);
    }
    keypoints.colors.forEach((color, index) => {
      if (!seen(index)) return;
      add(joints, color, `M${at(index)}h0.01`);
      if (pose[3 * index + 2] === 1) hidden += `M${at(index)}h0.01`;
    });
    for (const [paths, style] of [[bones, "bone"], [joints, "joint"]]) {
      if (paths.size) draw(layer, "path", { class: `${style} shade`, d: [...paths.values()].join("") });
      paths.forEach((d, stroke) => draw(layer, "path", { class: style, d, stroke }));
    }
    if (hidden) draw(layer, "path", { class: "core", d: hidden });
  }
  function addStroke(image, points, first) {
    const dot = points.length === 2, layer = group(image, "strokes");
    const d = `M${points.join(" ")}${dot ? "h0.01" : ""}`;
    const style = `stroke${first ? " first" : ""}${dot ? " dot" : ""}`;
    if (first) draw(layer, "path", { class: dot ? "dot shade" : "shade", d });
    draw(layer, "path", { class: style, d });
  }

  // ---- one person, large ----
  function open() {
    const person = found[current], content = read(person);
    if (!content) return;
    large = current;
    const images = [[annotated(person, content), "annotated"]];
    if (beside) images.push([predicted(person, content), `predicted, ${kind()} prompt`]);
    images.forEach(([image]) => { image.classList.add("large"); view(image, content); });
    byId("who").textContent = name(person);
    byId("position").textContent = `${(current + 1).toLocaleString("en")} of ${found.length.toLocaleString("en")}`;
    byId("large").replaceChildren(...images.map(([image, text]) => make("figure", {}, image, make("figcaption", { textContent: text }))));
    byId("facts").replaceChildren(factList(person, content), ...(beside && person.results ? [scoreTable(person)] : []));
    // Not `disabled`: the button with the focus would lose it, and the dialog the arrow keys with it.
    byId("previous").setAttribute("aria-disabled", current === 0);
    byId("next").setAttribute("aria-disabled", current === found.length - 1);
    sharpen(person, content, images.map(([image]) => image));
    if (!details.open) details.showModal();
  }
  function view(image, content) {
    let [x, y, right, bottom] = [0, 0, ...content.size];
    if (byId("zoom").checked) {
      const boxes = [content.own.box, content.own.results[kind()]?.box].filter(Boolean);
      if (boxes.length) {
        x = Math.min(...boxes.map((box) => box[0])); y = Math.min(...boxes.map((box) => box[1]));
        right = Math.max(...boxes.map((box) => box[0] + Math.max(0, box[2])));
        bottom = Math.max(...boxes.map((box) => box[1] + Math.max(0, box[3])));
        const border = 0.1 * Math.max(right - x, bottom - y) + 1;
        [x, y, right, bottom] = [x - border, y - border, right + border, bottom + border];
      }
    }
    image.setAttribute("viewBox", `${x} ${y} ${right - x} ${bottom - y}`);
  }
  function sharpen(person, content, images) { // the image itself in place of its copy
    const folder = data.links[data.files[person.file].name], note = byId("copy");
    note.hidden = !content.error;
    note.textContent = content.error;
    if (!content.thumbnail || !folder || !content.upright) return;
    const url = `${folder}/${person.name.split("/").map(encodeURIComponent).join("/")}`;
    const original = new Image();
    original.addEventListener("load", () => {
      images.forEach((image) => image.querySelector("image").setAttribute("href", url));
    });
    original.addEventListener("error", () => {
      if (found[current] !== person) return;
      note.hidden = false;
      note.textContent = "This is the page's small copy: the image itself is not where it was.";
    });
    original.src = url;
  }
  function factList(person, content) {
    const list = make("dl");
    const add = (term, text, style = "") => {
      if (text) list.append(make("dt", { textContent: term }), make("dd", { textContent: text, dir: "auto", className: style }));
    };
    person.problems.forEach(([index, text]) => add(data.problems[index], text, "wrong"));
    person.captions.slice(1).forEach((text) => add("caption", text));
    add("image id", person.id);
    add("annotation id", person.annotation);
    add("file", `${data.files[person.file].name}: ${person.name}`);
    add("image", `${content.size[0]} × ${content.size[1]} pixels, ${plural(person.people, "person", "people")}`);
    if (person.area !== null) {
      const share = (100 * person.area) / (content.size[0] * content.size[1]);
      add("area", `${person.area.toLocaleString("en")} square pixels, ${share.toFixed(1)} % of the image, ${sizeOf(person)}`);
    }
    if (content.own.box) add("box", content.own.box.join(", "));
    add("keypoints", `${person.keypoints} labelled`);
    return list;
  }
  function scoreTable(person) {
    const table = make("table", {}, make("caption", { textContent: "Best prediction by prompt, in percent" }));
    const row = (tag, cells) => make("tr", {}, ...cells.map((text) => make(tag, { textContent: text })));
    table.append(row("th", ["prompt", "score", "mask IoU", "OKS", "shows"]));
    for (const each of data.kinds) {
      const own = person.results[each];
      table.append(row("td", own
        ? [each, percent(own.score), percent(own.iou), percent(own.oks), own.outcome === null ? "–" : data.outcomes[own.outcome]]
        : [each, "–", "–", "–", "nothing found"]));
    }
    return table;
  }

  // ---- keyboard and events ----
  function mark(position) {
    cards.get(current)?.firstChild.setAttribute("tabindex", -1);
    current = position;
    cards.get(current)?.firstChild.setAttribute("tabindex", 0);
  }
  function focus(position) {
    mark(Math.max(0, Math.min(found.length - 1, position)));
    const row = Math.floor(current / columns) * rowHeight + grid.getBoundingClientRect().top;
    const covered = getComputedStyle(filters).position === "sticky" ? filters.offsetHeight : 0;
    if (row < covered) scrollBy(0, row - covered - GAP);
    else if (row + rowHeight > innerHeight) scrollBy(0, row + rowHeight - innerHeight + GAP);
    refresh();
    const card = cards.get(current)?.firstChild;
    card?.setAttribute("tabindex", 0);
    card?.focus({ preventScroll: true });
  }
  function step(by) {
    const next = current + by;
    if (next < 0 || next >= found.length) return;
    mark(next);
    open();
  }
  grid.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    focus(current + steps[event.key]);
  });
  details.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
  });
  // The browser has already given the focus back, to the person who was opened first.
  details.addEventListener("close", () => focus(large));
  byId("close").addEventListener("click", () => details.close());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("zoom").addEventListener("change", () => open());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || details.open || /^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    byId("text").focus();
  });
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(() => { layers(); fillOutcomes(); apply(); }));
  byId("text").addEventListener("input", apply);
  filters.addEventListener("change", (event) => {
    if (event.target.id === "text") return;
    if (event.target.type === "checkbox") return layers();
    if (event.target.id === "kind") fillOutcomes();
    apply();
  });
  function layers() {
    byId("layers").querySelectorAll("input").forEach((box) => document.body.classList.toggle(`draw-${box.value}`, box.checked));
  }
  let width = 0, scheduled = false;
  addEventListener("scroll", () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; refresh(); });
  }, { passive: true });
  addEventListener("resize", () => refresh());
  new ResizeObserver(() => {
    if (grid.clientWidth !== width) { width = grid.clientWidth; layout(); }
  }).observe(grid);

  data.people.forEach((person, number) => { person.number = number; });
  for (const [color, value] of Object.entries(data.colors)) document.documentElement.style.setProperty(`--${color}`, value);
  byId("notes").replaceChildren(...data.notes.map((text) => make("li", { textContent: text })));
  fillOptions();
  fillOutcomes();
  layers();
  apply();
  whileLoading();
})();
