// The page's one job: send the picture with the chosen tasks and budget whenever something changes, show what comes back.
import { grab, shrink, startCamera, stopCamera } from "./pictures.js";
import { drawChart, showAnswer, showError, showTasks } from "./view.js";

const $ = (id) => document.getElementById(id);
const RETRY_S = 1;  // of the camera after an error, where the server does not say how long
const state = {
  models: [], blob: null, shown: null, url: "", camera: null, busy: false, again: false, timer: 0, times: [], curve: [],
};

function headers() {
  const key = $("key").value;
  return key ? { "X-API-Key": key } : {};
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers() });
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) $("key-entry").hidden = false;
  if (!answer.ok) {
    const error = new Error(body.error?.message ?? `the server answered ${answer.status}`);
    error.retry_s = Number(answer.headers.get("Retry-After")) || RETRY_S;
    throw error;
  }
  return body;
}

function model() {
  return state.models.find((one) => one.name === $("model").value) ?? state.models[0];
}

async function loadModels() {
  try {
    state.models = (await ask("/v1/models")).models;
  } catch (error) {
    return showError(error.message);
  }
  if (!state.models.length) {
    showError("the models are still loading");
    return void setTimeout(loadModels, 700);
  }
  $("model").replaceChildren(...state.models.map(({ name }) => new Option(name)));
  $("model-choice").hidden = state.models.length < 2;
  chooseModel();
}

function chooseModel() {
  showTasks(model().tasks, changed);
  $("units").hidden = model().predicts !== "latency";
  if ($("units").hidden) document.querySelector('input[value="share"]').checked = true;
  changed();
}

function chosenTasks() {
  const boxes = [...document.querySelectorAll("#tasks input[type=checkbox]:checked")];
  return boxes.map((box) => `${box.value}=${document.querySelector(`#weight-${box.value}`).dataset.weight}`).join(",");
}

// The knob goes from the cheapest plan to the full one: the server says which these are for the chosen tasks.
async function readCurve(tasks) {
  const query = new URLSearchParams({ tasks, curve: "true", model: model().name });
  state.curve = (await ask(`/v1/plan?${query}`)).curve;
}

function budget() {
  const turn = Number($("budget").value) / 100;
  const unit = document.querySelector("input[name=unit]:checked").value;
  const first = state.curve[0], last = state.curve[state.curve.length - 1];
  if (turn >= 1 || !first) return { budget: null, text: "full" };
  const span = (low, high) => low * (high / low) ** turn;
  if (unit === "ms" && first.predicted.p95_ms) {
    const limit = span(first.predicted.p95_ms * 1.02, last.predicted.p95_ms);
    return { budget: `${limit.toFixed(1)}ms`, text: `${limit.toFixed(1)} ms` };
  }
  const share = Math.min(1, span(Math.max(first.plan.share, 0.01), 1) + 0.001);
  return { budget: share.toFixed(3), text: `${Math.round(share * 100)} %` };
}

// One request at a time: what changes meanwhile is asked when the answer is there. The camera asks again of itself, after
// an error not before the server may have recovered.
async function changed() {
  if (state.busy) return void (state.again = true);
  clearTimeout(state.timer);
  const tasks = chosenTasks();
  if (!state.models.length) return;
  if (!tasks) return showError("Tick at least one task.");
  state.busy = true;
  let wait_s = 0;
  try {
    await readCurve(tasks);
    const wish = budget();
    $("budget-text").textContent = wish.text;
    $("budget").setAttribute("aria-valuetext", wish.text);
    if (state.camera) state.blob = await grab($("video"));
    if (state.blob) await infer(state.blob, tasks, wish);
  } catch (error) {
    wait_s = error.retry_s ?? RETRY_S;
    showError(error.message);
  }
  state.busy = false;
  if (state.again || (state.camera && !wait_s)) {
    state.again = false;
    requestAnimationFrame(changed);
  } else if (state.camera) {
    state.timer = setTimeout(changed, wait_s * 1000);
  }
}

async function infer(blob, tasks, wish) {
  const form = new FormData();
  form.set("file", blob, "picture.jpg");
  form.set("tasks", tasks);
  form.set("format", "png");
  form.set("model", model().name);
  if (wish.budget) form.set("budget", wish.budget);
  const answer = await ask("/v1/infer", { method: "POST", body: form });
  showAnswer(answer, urlOf(blob));
  const { measured, predicted } = answer.cost;
  state.times.push({ server: measured.server_ms, engine: measured.engine_ms, predicted: predicted.latency_ms });
  state.times = state.times.slice(-32);
  drawChart($("chart"), state.times);
}

// Of the picture that was answered; the one of the picture before is given back.
function urlOf(blob) {
  if (blob !== state.shown) {
    URL.revokeObjectURL(state.url);
    state.url = URL.createObjectURL(blob);
    state.shown = blob;
  }
  return state.url;
}

async function take(file) {
  if (!file) return;
  try {
    state.blob = await shrink(file);
  } catch {
    return showError("The browser cannot read this file as a picture: choose a JPEG or PNG.");
  }
  changed();
}

async function toggleCamera() {
  try {
    state.camera = state.camera ? stopCamera(state.camera, $("video")) : await startCamera($("video"));
  } catch (error) {
    showError(`No camera: ${error.message}`);
  }
  $("camera").setAttribute("aria-pressed", String(Boolean(state.camera)));
  if (state.camera) changed();
}

$("file").addEventListener("change", (event) => take(event.target.files[0]));
$("budget").addEventListener("input", changed);
$("model").addEventListener("change", chooseModel);
$("camera").addEventListener("click", toggleCamera);
$("key").addEventListener("change", loadModels);
document.querySelectorAll("input[name=unit]").forEach((radio) => radio.addEventListener("change", changed));
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
loadModels();
