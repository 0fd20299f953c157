// Plot a rule's samples beside those of Adam or of PPO, for the inputs that sliders set.
"use strict";
(() => {
  const loaded = {};
  const waiting = {};
  explorer.add = (name, samples) => waiting[name](samples);

  function load(name) {
    loaded[name] ??= new Promise((resolve, reject) => {
      waiting[name] = resolve;
      const script = document.createElement("script");
      script.onerror = () => reject(new Error(`cannot load ${script.src}`));
      script.src = `_static/explorer/${name.replaceAll("/", "-")}.js`;
      document.head.append(script);
    });
    return loaded[name];
  }

  // Sliders: name -> [least, most, at first, step]
  const INPUTS = {
    optimizer: {
      gradient: [-0.01, 0.01, 0.005, 0.0005],
      momentum: [-0.01, 0.01, 0.004, 0.0005],
      progress: [0, 0.95, 0, 0.05],
      dormancy: [0, 4, 1, 0.1],
    },
    drift: { ratio: [0.06, 1.99, 1.3, 0.01], advantage: [-3, 3, 1, 0.1] },
  };
  const REFERENCE = { optimizer: "Adam", drift: "PPO" };
  const VIEWS = { optimizer: ["update"], drift: ["drift", "slope of the loss"] };
  const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [640, 380, 92, 60, 16];

  // Return the two nearest points of an axis and the weight of the second.
  function nearest(axis, x) {
    let place;
    if (axis.length === 3 && Number.isInteger(axis[2]) && axis[2] > 4) {
      place = ((x - axis[0]) / (axis[1] - axis[0])) * (axis[2] - 1);
      place = Math.min(Math.max(place, 0), axis[2] - 1);
    } else {
      let i = axis.findLastIndex((point) => point <= x);
      i = Math.min(Math.max(i, 0), axis.length - 2);
      place = i + Math.min(Math.max((x - axis[i]) / (axis[i + 1] - axis[i]), 0), 1);
    }
    const low = Math.floor(place);
    return [[low, 1 - (place - low)], [low + 1, place - low]].filter(([, w]) => w > 0);
  }

  // Interpolate over panels and rows; return the values along the last axis.
  function curve(samples, inputs, view) {
    const { axes } = explorer;
    let panels, row, n;
    if (samples.kind === "optimizer") {
      n = axes.gradient[2];
      row = nearest(axes.momentum, inputs.momentum);
      panels = nearest(axes.progress, inputs.progress).flatMap(([i, a]) =>
        nearest(axes.dormancy, inputs.dormancy).map(([j, b]) => [
          i * axes.dormancy.length + j, a * b]));
    } else {
      n = axes.ratio[2];
      row = nearest(axes.advantage, inputs.advantage);
      panels = [[VIEWS.drift.indexOf(view), 1]];
    }
    return Array.from({ length: n }, (_, k) => {
      let sum = 0;
      for (const [panel, a] of panels)
        for (const [i, b] of row) {
          const value = samples.values[panel][i * n + k];
          sum += value === null ? NaN : a * b * value * samples.scales[panel];
        }
      return sum;
    });
  }

  function limits(samples, view) {
    if (view === "drift") return [0, 2];
    if (view !== "update") return [-2.5, 2.5];
    const most = 999 * Math.max(...samples.scales) || 1;
    return [-most, most];
  }

  const short = (x) => String(Number(x.toPrecision(2)));
  const known = (x, shown) => (Number.isNaN(x) ? "not finite" : shown(x));

  function element(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function draw(svg, axis, label, [low, high], lines, mark) {
    const x = (v) => LEFT + ((v - axis[0]) / (axis[1] - axis[0])) * (WIDTH - LEFT - 40);
    const y = (v) => TOP + ((high - v) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const inside = (v) => Math.min(Math.max(y(v), -HEIGHT), 2 * HEIGHT);
    const text = (at, shown, more) => element("text", { ...at, ...more }, shown);
    const parts = [low, (low + high) / 2, high].flatMap((v) => [
      element("line", { x1: LEFT, x2: WIDTH - 40, y1: y(v), y2: y(v), class: "grid" }),
      text({ x: LEFT - 6, y: y(v) + 5 }, short(v), { "text-anchor": "end" })]);
    for (const v of [axis[0], (axis[0] + axis[1]) / 2, axis[1]])
      parts.push(text({ x: x(v), y: HEIGHT - 34 }, short(v), { "text-anchor": "middle" }));
    parts.push(text({ x: (LEFT + WIDTH) / 2, y: HEIGHT - 8 }, label, { "text-anchor": "middle" }));
    for (const [name, values] of lines) {
      const points = values.flatMap((v, i) => Number.isNaN(v) ? [] : [
        `${x(axis[0] + ((axis[1] - axis[0]) * i) / (values.length - 1))},${inside(v)}`]);
      parts.push(element("polyline", { points: points.join(" "), class: name }));
    }
    if (!Number.isNaN(mark[1]))
      parts.push(element("circle", { cx: x(mark[0]), cy: inside(mark[1]), r: 6 }));
    svg.replaceChildren(...parts);
  }

  // Return a row of the form, whose control calls `changed`.
  function control(form, name, input, changed) {
    const label = document.createElement("label");
    const shown = document.createElement("output");
    const update = () => { shown.textContent = input.type === "range" ? input.value : ""; };
    input.name = name;
    input.addEventListener("input", () => { update(); changed(); });
    update();
    label.append(`${name} `, input, shown);
    form.append(label);
  }

  async function show(root, name) {
    const samples = await load(name);
    const kind = samples.kind;
    const reference = await load(REFERENCE[kind]);
    if (rule.value !== name) return; // another one was chosen meanwhile
    const form = document.createElement("form");
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    const readout = document.createElement("p");
    readout.setAttribute("aria-live", "polite");
    const across = kind === "optimizer" ? "gradient" : "ratio";
    const axis = explorer.axes[across];

    function redraw() {
      const inputs = {};
      for (const field of form.elements) inputs[field.name] = field.valueAsNumber;
      const view = form.elements.show?.value ?? "update";
      const rule = curve(samples, inputs, view);
      let other = curve(reference, inputs, view);
      let beside = "PPO's clip";
      if (kind === "optimizer") {
        const dot = (a, b) => a.reduce((sum, v, i) => sum + (v || 0) * (b[i] || 0), 0);
        const rate = dot(rule, other) / dot(other, other);
        other = other.map((v) => v * rate);
        beside = `Adam with learning rate ${short(rate)}`;
      }
      const at = (values) => nearest(axis, inputs[across]).reduce(
        (sum, [i, w]) => sum + w * values[i], 0);
      draw(svg, axis, across, limits(samples, view),
        [["reference", other], ["rule", rule]], [inputs[across], at(rule)]);
      readout.textContent = `At ${across} ${inputs[across]}, the ${view} of ${name} is ` +
        `${known(at(rule), short)}; of ${beside} (dashed), ${known(at(other), short)}.`;
    }

    for (const [key, [min, max, value, step]] of Object.entries(INPUTS[kind])) {
      const input = document.createElement("input");
      Object.assign(input, { type: "range", min, max, step });
      input.value = value;
      control(form, key, input, redraw);
    }
    if (VIEWS[kind].length > 1) {
      const select = document.createElement("select");
      select.append(...VIEWS[kind].map((view) => new Option(view)));
      control(form, "show", select, redraw);
    }
    root.replaceChildren(svg, readout, form);
    redraw();
  }

  const root = document.getElementById("rule-explorer");
  const rule = document.getElementById("explorer-rule");
  root.before(rule.closest("p"));
  const wanted = decodeURIComponent(location.hash.slice(1));
  if ([...rule.options].some((option) => option.value === wanted)) rule.value = wanted;
  rule.addEventListener("change", () => show(root, rule.value));
  show(root, rule.value);
})();
