// What the page shows. Texts go in as text, never as markup.
const $ = (id) => document.getElementById(id);
const WEIGHTS = [0.25, 0.5, 1, 2, 4];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function showError(message) {
  $("status").textContent = message;
  $("status").classList.add("error");
}

export function showTasks(tasks, changed) {
  const rows = Object.entries(tasks).map(([name, task]) => {
    const box = element("input", { type: "checkbox", value: name, checked: true });
    const slider = element("input", { type: "range", id: `weight-${name}`, min: 0, max: WEIGHTS.length - 1, value: 2 });
    const shown = element("output", { textContent: "1 x" });
    slider.dataset.weight = 1;
    slider.setAttribute("aria-label", `How much ${name} matters`);
    slider.addEventListener("input", () => {
      slider.dataset.weight = WEIGHTS[slider.value];
      shown.textContent = `${WEIGHTS[slider.value]} x`;
      slider.setAttribute("aria-valuetext", shown.textContent);
      changed();
    });
    box.addEventListener("change", changed);
    const label = element("label", { title: task.description }, box, ` ${name}`);
    return element("div", { className: "task" }, label, slider, shown);
  });
  $("tasks").replaceChildren(...rows);
}

export function showAnswer(answer, url) {
  const figures = Object.entries(answer.outputs).map(([name, output]) => figure(name, output, answer.quality.kept[name]));
  if (url) figures.unshift(element("figure", {}, image(url, "The picture"), caption("picture", "")));
  $("pictures").replaceChildren(...figures);
  showPlan(answer);
  const { server_ms: server, engine_ms: engine } = answer.cost.measured;
  $("status").classList.remove("error");
  $("status").textContent = `Answered in ${server.toFixed(0)} ms, ${engine.toFixed(0)} of them in the engine.`;
}

function figure(name, output, kept) {
  const quality = kept == null ? "" : `${Math.round(kept * 100)} % of full accuracy`;
  const body = output.data
    ? image(`data:${output.media_type};base64,${output.data}`, `${name} of the picture`)
    : likeliest(output.value);
  return element("figure", {}, body, caption(name, quality));
}

function image(source, alternative) {
  return element("img", { src: source, alt: alternative });
}

function caption(name, note) {
  return element("figcaption", {}, element("b", { textContent: name }), element("small", { textContent: note }));
}

function likeliest(value) {
  const share = value.probability ?? Math.max(...Object.values(value.probabilities ?? { none: 0 }));
  const bar = element("div", { className: "bar" });
  bar.style.width = `${Math.round(share * 100)}%`;
  const text = `${String(value.label).replaceAll("_", " ")} ${Math.round(share * 100)} %`;
  return element("div", { className: "label" }, text, bar);
}

function showPlan({ plan, cost, quality, model }) {
  const decoders = Object.entries(plan.decoder_widths).map(([task, width]) => `${task} ${width}`);
  const predicted = cost.predicted.latency_ms;
  const facts = {
    Model: `${model.name}, ${plan.backend}`,
    Encoder: `width ${plan.encoder_width}${plan.top_k ? `, ${plan.top_k} ${plan.top_k === 1 ? "expert" : "experts"} a token` : ""}, ${plan.precision}`,
    Decoders: decoders.join(", "),
    Compute: `${(plan.flops / 1e9).toFixed(2)} GFLOPs, ${Math.round(plan.share * 100)} % of full`,
    Predicted: predicted == null ? "unknown: not calibrated" : `${predicted.toFixed(1)} ms`,
    Engine: `${cost.measured.engine_ms.toFixed(1)} ms`,
    Budget: plan.budget_met ? `${plan.budget}, met` : `${plan.budget}, not met`,
    Lowered: quality.lowered_by_load ? "by load" : quality.lowered ? "by the budget" : "no",
  };
  const cells = Object.entries(facts).flatMap(([name, text]) => [
    element("dt", { textContent: name }),
    element("dd", { textContent: text }),
  ]);
  $("plan").replaceChildren(...cells);
  $("reasons").replaceChildren(...plan.reasons.map((reason) => element("li", { textContent: reason })));
}

// A bar is all of the server's time, much of which is drawing and packing the pictures; its stronger part is the
// engine's, which is what the budget buys and the prediction is of.
export function drawChart(svg, times) {
  const [width, height, left] = [320, 120, 46];  // left: four digits and "ms"
  const highest = Math.max(10, ...times.map((one) => Math.max(one.server, one.predicted ?? 0))) * 1.1;
  const y = (ms) => height - 14 - (ms / highest) * (height - 24);
  const step = (width - left) / 32;
  const part = (name, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };
  const parts = [0, highest / 2.2, highest / 1.1].flatMap((ms) => [
    part("line", { x1: left, x2: width, y1: y(ms), y2: y(ms) }),
    part("text", { x: 2, y: y(ms) + 3 }, `${ms.toFixed(0)} ms`),
  ]);
  times.forEach((one, at) => {
    const x = left + at * step;
    for (const name of ["server", "engine"]) {
      const top = y(one[name]);
      parts.push(part("rect", { class: name, x: x + 1, y: top, width: step - 2, height: y(0) - top }));
    }
    if (one.predicted != null) {
      const line = y(one.predicted);
      parts.push(part("path", { class: "predicted", d: `M${x} ${line}H${x + step}` }));
    }
  });
  const last = times[times.length - 1];
  const now = `${last.server.toFixed(0)} ms, ${last.engine.toFixed(0)} of them in the engine`;
  svg.setAttribute("aria-label", `Latency of the last ${times.length} answers, now ${now}`);
  svg.replaceChildren(...parts);
}
