
"use strict";
{
// All text comes out of the data block and goes into the page as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const run = data.run;
const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

const ICONS = { passed: "✓", flaky: "≈", failed: "✗", "timed out": "✗", errored: "!", skipped: "–",
  cancelled: "⊘", interrupted: "⊘", running: "…" };
const classOf = (word) => word.replace(" ", "-");
const good = (entry) => ["passed", "flaky", "skipped"].includes(entry.word);
const badge = (word, text) => el("span", { class: `badge ${classOf(word)}` }, `${ICONS[word] || "?"} ${text || word}`);
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${ms} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)} s`;
  const whole = Math.floor(s);
  if (s < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}
function bytes(count) {
  for (const [unit, size] of [["GiB", 1 << 30], ["MiB", 1 << 20], ["KiB", 1 << 10]]) {
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  }
  return counted(count, "byte");
}
function moment(text) {
  const local = new Date(text);
  const shown = text.slice(0, 19).replace("T", " ") + " UTC";
  return el("time", { datetime: text, title: Number.isNaN(local.getTime()) ? text : `${local.toLocaleString()} here` }, shown);
}

/** Name and value, in a grid; what has no value is left out. */
function facts(pairs) {
  const items = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return el("dl", { class: "facts" }, items.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}
const code = (text) => text && el("code", {}, text);
const list = (items) => items && items.length ? items.join(", ") : null;

function table(head, rows) {
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell)))))));
}

/** Something that is opened by hand and made only then. */
function folded(title, make, attributes) {
  const node = el("details", { class: "plain card", ...attributes }, el("summary", {}, title));
  node.addEventListener("toggle", () => { if (node.open && node.childElementCount === 1) node.append(make()); });
  return node;
}

// ---- Top ----

function top() {
  $("name").textContent = run.name;
  $("badge").replaceWith(badge(run.verdict));
  $("when").append(moment(run.created_at), run.duration_ms === null ? "" : ` · ${duration(run.duration_ms)}`);
  const counts = new Map();
  for (const job of data.jobs) counts.set(job.word, (counts.get(job.word) || 0) + 1);
  const short = (hash) => hash && el("code", { title: hash }, hash.slice(0, 12));
  const head = run.git_head && el("span", {}, short(run.git_head), run.git_dirty ? " and changes that are not committed" : "");
  const base = run.base && el("span", {}, code(run.base.rev), " at ", short(run.base.merge_base));
  const nodes = [
    el("div", { class: "card" }, facts([
      ["About", run.description],
      ["Run", code(run.run_id)],
      ["Jobs", counts.size ? el("div", { class: "counts" }, [...counts].map(([word, count]) => badge(word, `${count} ${word}`))) : "none"],
      ["Commit", head || (run.git_head === null ? "no git" : null)],
      ["Changes counted from", base],
      ["Snapshot", short(run.snapshot_hash)],
      ["Source", code(run.source_root)],
      ["Repeats", code(run.rerun_of)],
      ["Engine", run.engine_version],
    ])),
  ];
  // What no job says for the run.
  const own = !data.jobs.some((entry) => entry.word === run.verdict);
  if (run.message) nodes.push(el("p", { class: `callout ${own ? classOf(run.verdict) : ""}` }, run.message));
  const bad = data.jobs.filter((entry) => !good(entry));
  if (bad.length) {
    const links = bad.slice(0, 30).map((entry) => el("a", { href: `#job-${entry.id}`, class: "bad" }, entry.id));
    nodes.push(el("p", { class: "callout failed" }, "Did not pass: ", links.flatMap((link, n) => n ? [", ", link] : [link]),
      bad.length > links.length && ` and ${bad.length - links.length} more`));
  }
  for (const warning of data.warnings) {
    nodes.push(el("p", { class: "callout warning" }, "Warning: ", warning));
  }
  return nodes;
}

// ---- Timeline ----

function timeline() {
  const lanes = data.lanes;
  if (!lanes.length) return "";
  let total = 1;
  const visit = (span) => { total = Math.max(total, span.start_us + span.duration_us); };
  for (const lane of lanes) lane.spans.forEach(visit);
  if (run.duration_ms !== null) total = Math.max(total, run.duration_ms * 1000);
  const percent = (us) => `${(us * 100) / total}%`;
  const place = (node, span) => {
    node.style.left = percent(span.start_us);
    node.style.width = percent(span.duration_us);
    return node;
  };
  const words = (span) => [span.name, span.verdict, duration(Math.round(span.duration_us / 1000)),
    `from ${duration(Math.round(span.start_us / 1000))}`].filter(Boolean).join(", ");
  const bar = (lane, span) => {
    const job = lane.job;
    const tone = span.verdict ? classOf(span.verdict) : span.kind;
    const node = el(job ? "a" : "span", { class: `span ${tone}`, title: words(span), "aria-label": words(span),
      href: job ? `#job-${lane.name}` : null, role: job ? null : "img" });
    for (const part of span.parts || []) {
      const inner = el("span", { class: `part ${part.verdict ? classOf(part.verdict) : ""}`, title: words(part) });
      inner.style.left = `${span.duration_us ? ((part.start_us - span.start_us) * 100) / span.duration_us : 0}%`;
      inner.style.width = `${span.duration_us ? (part.duration_us * 100) / span.duration_us : 0}%`;
      node.append(inner);
    }
    return place(node, span);
  };
  const rows = lanes.map((lane) => {
    const track = el("div", { class: "track" });
    for (const span of lane.spans) track.append(bar(lane, span));
    const last = lane.spans[lane.spans.length - 1];
    if (last && lane.spans.length === 1) {
      const end = last.start_us + last.duration_us;
      const before = end > total * 0.85;
      const took = el("span", { class: before ? "took before" : "took" }, duration(Math.round(last.duration_us / 1000)));
      took.style.left = percent(before ? last.start_us : end);
      track.append(took);
    }
    return el("div", { class: "row" }, el("span", { class: lane.job ? "label" : "label muted", title: lane.name }, lane.name), track);
  });
  return el("section", { "aria-label": "Timeline" }, el("h2", {}, "Timeline"),
    el("div", { class: "card timeline", tabindex: "0" }, el("div", { class: "row axis" }, el("span"), axis(total, percent)), rows));
}

function axis(total, percent) {
  const track = el("div", { class: "track" });
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 144e5, 864e5];
  const step = (steps.find((ms) => total / (ms * 1000) <= 8) || 864e6) * 1000;
  for (let at = 0; at <= total; at += step) {
    if (at > total * 0.97 && at !== 0) break;
    const tick = el("span", { class: "tick" }, at === 0 ? "0" : duration(at / 1000));
    tick.style.left = percent(at);
    track.append(tick);
  }
  return track;
}

// ---- Logs ----

const CHUNK = 500;
const AT_ONCE = 5000;
const ESCAPE = /\x1b(?:\[([0-9;:]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][0-9A-B]|.)?/g;

/** What a terminal would leave of a line that was written over, without the line's own end. */
function lastWritten(line) {
  const text = line.endsWith("\r") ? line.slice(0, -1) : line;
  const at = text.lastIndexOf("\r");
  return at < 0 ? text : text.slice(at + 1);
}
/** Control characters, made visible. */
const visible = (text) => text.replace(/[\0-\x08\x0b-\x1f\x7f]/g, (c) => c === "\x7f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0)));

/** A line as pieces of text with the classes of their colours. */
function pieces(line) {
  if (!line.includes("\x1b")) return [[visible(line), ""]];
  const found = [];
  let style = new Map(), from = 0;
  const flush = (to) => {
    if (to > from) found.push([visible(line.slice(from, to)), [...style.values()].join(" ")]);
  };
  for (const match of line.matchAll(ESCAPE)) {
    flush(match.index);
    from = match.index + match[0].length;
    if (match[2] !== "m") continue;
    const codes = match[1].split(/[;:]/).map(Number);
    for (let i = 0; i < codes.length; i++) {
      const c = codes[i];
      if (c === 0) style = new Map();
      else if (c === 1) style.set("bold", "b");
      else if (c === 2) style.set("bold", "d");
      else if (c === 3) style.set("italic", "i");
      else if (c === 4) style.set("underline", "u");
      else if (c === 22) style.delete("bold");
      else if (c === 23) style.delete("italic");
      else if (c === 24) style.delete("underline");
      else if (c === 39) style.delete("colour");
      else if (c >= 30 && c <= 37) style.set("colour", `c${c - 30}`);
      else if (c >= 90 && c <= 97) style.set("colour", `c${c - 90}`);
      else if (c === 38 || c === 48) i += codes[i + 1] === 5 ? 2 : codes[i + 1] === 2 ? 4 : 0;
    }
  }
  flush(line.length);
  return found;
}
const plain = (line) => pieces(line).map(([text]) => text).join("");

/** One log: its lines, and those of them that are in the page. */
class Log {
  constructor(job, log) {
    this.job = job;
    this.log = log;
    this.cutAt = -1;
    this.split = null;
    this.searchable = null;
    this.built = 0;
    this.nodes = [];
    this.hits = new Set();
    this.box = null;
  }
  /** The lines, split when somebody wants to see or to search them. */
  get lines() {
    if (this.split) return this.split;
    const { log } = this;
    const split = (text) => {
      const lines = text.split("\n");
      if (lines[lines.length - 1] === "") lines.pop();
      return lines.map(lastWritten);
    };
    this.split = split(log.head);
    if (log.left_out > 0) {
      this.cutAt = this.split.length;
      this.split = this.split.concat(`${bytes(log.left_out)} are left out here. All of it: ${log.typed}`, split(log.tail));
    }
    return this.split;
  }
  /** The lines as they are searched. */
  text() {
    this.searchable ||= this.lines.map((line) => plain(line).toLowerCase());
    return this.searchable;
  }
  section() {
    const { log } = this;
    this.box = el("div", { class: "lines", tabindex: "0", role: "region", "aria-label": `${log.name} of ${this.job.id}` });
    const lines = this.lines.length;
    const size = el("span", { class: "muted" }, this.cutAt < 0 ? `${counted(lines, "line")}, ${bytes(log.bytes)}` : bytes(log.bytes));
    const command = el("code", { class: "muted" }, log.typed);
    this.build(AT_ONCE);
    if (!this.lines.length) this.box.append(el("div", { class: "l cut" }, "This log is empty."));
    return el("section", { class: "log" }, el("h3", {}, log.name, size, command), this.box);
  }
  /** Makes at least the first lines; the rest follows when there is time for it. */
  build(upTo) {
    const end = Math.min(this.lines.length, Math.max(upTo, this.built));
    while (this.built < end) {
      const chunk = el("div", { class: "chunk" });
      const last = Math.min(this.lines.length, this.built + CHUNK);
      chunk.style.containIntrinsicSize = `auto ${(last - this.built) * 18}px`;
      for (let n = this.built; n < last; n++) {
        const node = this.line(n);
        this.nodes.push(node);
        chunk.append(node);
      }
      this.built = last;
      this.box.append(chunk);
    }
    if (this.built < this.lines.length && !this.pending) {
      this.pending = true;
      requestAnimationFrame(() => { this.pending = false; this.build(this.built + AT_ONCE); });
    }
  }
  line(n) {
    if (n === this.cutAt) return el("div", { class: "l cut" }, this.lines[n]);
    const node = el("div", { class: "l", "data-n": this.cutAt < 0 || n < this.cutAt ? n + 1 : "…" });
    if (this.lines[n].startsWith("[jerichoci]")) node.classList.add("own");
    if (this.hits.has(n)) node.classList.add("hit");
    this.fill(node, n, "");
    return node;
  }
  fill(node, n, query) {
    node.replaceChildren(...pieces(this.lines[n]).map(([text, style]) => style ? el("span", { class: style }, text) : text));
    if (query) markIn(node, query);
  }
  show(n, query) {
    this.build(n + 1);
    const node = this.nodes[n];
    if (n !== this.cutAt) this.fill(node, n, query);
    node.classList.add("here");
    node.scrollIntoView({ block: "center", inline: "nearest" });
    return node;
  }
}

/** Marks a text inside a node, also where it runs over several pieces. */
function markIn(node, query) {
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  const texts = [];
  let whole = "";
  while (walker.nextNode()) {
    texts.push([walker.currentNode, whole.length]);
    whole += walker.currentNode.data;
  }
  const lower = whole.toLowerCase();
  // Where lower case is longer than upper case, positions are not the same; then nothing is marked.
  if (lower.length !== whole.length) return;
  const ranges = [];
  for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, at + query.length)) ranges.push([at, at + query.length]);
  for (const [start, end] of ranges.reverse()) {
    for (let i = texts.length - 1; i >= 0; i--) {
      const [text, offset] = texts[i];
      const a = Math.max(start - offset, 0), b = Math.min(end - offset, text.length);
      if (a >= b) continue;
      const middle = text.splitText(a);
      middle.splitText(b - a);
      const mark = el("mark");
      middle.replaceWith(mark);
      mark.append(middle);
    }
  }
}

// ---- Jobs ----

const logs = [];

function job(entry) {
  const own = entry.logs.map((log) => new Log(entry, log));
  logs.push(...own);
  const node = el("details", { class: "job card", id: `job-${entry.id}` },
    el("summary", {},
      el("span", { class: `state ${classOf(entry.word)}` }, `${ICONS[entry.word] || "?"} ${entry.word}`),
      el("span", { class: "id" }, entry.id, entry.description !== entry.id && el("span", { class: "about" }, entry.description)),
      el("span", { class: "time" }, duration(entry.duration_ms)),
      entry.message && entry.message !== "passed" && entry.word !== "passed" && el("span", { class: "said" }, entry.message)));
  entry.node = node;
  entry.open = () => {
    if (node.childElementCount === 1) node.append(body(entry, own));
    node.open = true;
  };
  node.addEventListener("toggle", () => { if (node.open) entry.open(); });
  return node;
}

function body(entry, own) {
  const node = el("div", { class: "body" });
  node.append(facts([
    ["Where", entry.place], ["After", list(entry.needs)], ["Time limit", entry.limit], ["Groups", list(entry.groups)],
    ["Started", entry.started_at && moment(entry.started_at)],
    ["Exit code", entry.exit_code === null ? null : String(entry.exit_code)],
    ["Signal", entry.signal === null ? null : String(entry.signal)],
    ["Image", entry.image], ["Matrix", list(entry.matrix)],
    ["Said", entry.word === "passed" ? entry.message : null],
  ]));
  if (entry.command) node.append(el("pre", { class: "command", tabindex: "0" }, entry.command));
  for (const warning of entry.warnings) node.append(el("p", { class: "callout warning" }, "Warning: ", warning));
  for (const left of entry.leaked) node.append(el("p", { class: "callout warning" }, "Left behind and ended: ", left));
  for (const left of entry.left_behind) node.append(el("p", { class: "callout warning" }, "Left behind: ", left));
  if (entry.attempts.length) {
    node.append(el("h2", {}, "Attempts"), table(["Attempt", "Verdict", "Took", "Exit code", "Said"], entry.attempts.map((attempt) => [
      String(attempt.attempt), badge(attempt.word), duration(attempt.duration_ms),
      attempt.exit_code === null ? "" : String(attempt.exit_code), attempt.message || ""])));
  }
  for (const log of own) node.append(log.section());
  if (entry.phases.length) {
    node.append(el("h2", {}, "Phases"), table(["Phase", "Took"], entry.phases.map((phase) => [phase.name, duration(phase.duration_ms)])));
  }
  if (entry.artifacts.length) {
    node.append(el("h2", {}, "Artifacts"), table(["File", "Size"], entry.artifacts.map((file) => [code(file.path), bytes(file.bytes)])));
  }
  if (entry.environment.length) {
    node.append(el("p", { class: "muted variables" }, "Variables that the command saw: ", code(entry.environment.join(" "))));
  }
  // What went wrong is at the end.
  if (!good(entry)) {
    requestAnimationFrame(() => own.forEach((log) => { if (log.box && !log.hits.size) log.box.scrollTop = log.box.scrollHeight; }));
  }
  return node;
}

function jobs() {
  if (!data.jobs.length) return [];
  const only = el("input", { type: "checkbox", id: "only" });
  const wrap = el("input", { type: "checkbox", id: "wrap" });
  const nodes = data.jobs.map(job);
  only.addEventListener("change", () => {
    data.jobs.forEach((entry) => { entry.node.hidden = only.checked && good(entry); });
  });
  wrap.addEventListener("change", () => document.body.classList.toggle("wrap", wrap.checked));
  const title = el("h2", {}, "Jobs", el("label", {}, wrap, "Wrap lines"));
  const bad = data.jobs.filter((entry) => !good(entry)).length;
  if (bad && bad < data.jobs.length) title.lastChild.before(el("label", {}, only, "Only what did not pass"));
  return [el("section", { "aria-label": "Jobs" }, title, nodes)];
}

function rest() {
  const nodes = [];
  if (data.changed_files.length || data.filters.length) {
    const title = `${counted(data.changed_files.length, "changed file")}${run.base ? ` since ${run.base.rev}` : ""}`;
    nodes.push(el("h2", {}, "What changed"), folded(title, () => el("div", {},
      el("ul", { class: "files" }, data.changed_files.map((file) => el("li", {}, file))),
      data.filters.length ? facts([["Path filters", code(data.filters.join("  "))]]) : ""),
      { open: data.changed_files.length > 0 && data.changed_files.length <= 20 }));
  }
  if (data.settings.length) {
    nodes.push(el("h2", {}, "Settings"), folded(`${counted(data.settings.length, "setting")} in force`, () =>
      table(["Name", "Value", "From"], data.settings.map((setting) => [code(setting.name), code(setting.value) || "", setting.origin]))));
  }
  nodes.push(el("footer", {}, run.verdict === "running"
    ? "The run went on when this page was written. "
    : "", "Written by pikaci report. Nothing is loaded from elsewhere."));
  return nodes;
}

// ---- Search ----

const MOST = 20000;
const search = { query: "", matches: [], total: 0, at: -1, here: null };

function leave() {
  if (!search.here) return;
  const { log, n, node } = search.here;
  node.classList.remove("here");
  if (n !== log.cutAt) log.fill(node, n, "");
  search.here = null;
}

function find(text) {
  const query = text.toLowerCase();
  if (query === search.query) return;
  leave();
  search.query = query;
  search.matches = [];
  search.total = 0;
  search.at = -1;
  for (const log of logs) {
    for (const n of log.hits) log.nodes[n]?.classList.remove("hit");
    log.hits.clear();
    if (!query) continue;
    log.text().forEach((line, n) => {
      if (!line.includes(query)) return;
      search.total++;
      if (search.matches.length >= MOST) return;
      search.matches.push([log, n]);
      log.hits.add(n);
      log.nodes[n]?.classList.add("hit");
    });
  }
  for (const entry of data.jobs) {
    entry.node.querySelector(".hits")?.remove();
    const count = logs.reduce((sum, log) => sum + (log.job === entry ? log.hits.size : 0), 0);
    if (count) entry.node.querySelector(".id").append(el("span", { class: "hits" }, counted(count, "match").replace("matchs", "matches")));
  }
  const hash = text ? `#q=${encodeURIComponent(text)}` : location.pathname + location.search;
  try { history.replaceState(null, "", hash); } catch { /* Only a nicety. */ }
  $("next").disabled = $("previous").disabled = !search.matches.length;
  if (search.matches.length) go(1); else tell();
}

function go(step) {
  if (!search.matches.length) return;
  leave();
  search.at = (search.at + step + search.matches.length) % search.matches.length;
  const [log, n] = search.matches[search.at];
  log.job.node.hidden = false;
  log.job.open();
  search.here = { log, n, node: log.show(n, search.query) };
  tell();
}

function tell() {
  const { query, total, at } = search;
  $("found").textContent = !query ? "" : total ? `${at + 1} of ${total}` : "not found";
}

function listen() {
  let timer = 0;
  const query = $("query");
  query.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => find(query.value), 120); });
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    if (query.value.toLowerCase() === search.query) go(1); else find(query.value);
  });
  $("previous").addEventListener("click", () => go(-1));
  query.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); go(-1); }
    if (event.key === "Escape") { query.value = ""; find(""); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target === query) return;
    event.preventDefault();
    query.focus();
    query.select();
  });
  addEventListener("hashchange", follow);
}

/** What the address asks for: a job, or a text to search. */
function follow() {
  const hash = location.hash;
  let text = "";
  try { text = decodeURIComponent(hash.slice(hash.startsWith("#q=") ? 3 : 1)); } catch { return; }
  if (hash.startsWith("#q=")) {
    $("query").value = text;
    find(text);
  } else if (text.startsWith("job-")) {
    const entry = data.jobs.find((entry) => `job-${entry.id}` === text);
    if (entry) { entry.open(); entry.node.scrollIntoView({ block: "start" }); entry.node.querySelector("summary").focus({ preventScroll: true }); }
  }
}

$("main").append(...top(), timeline(), ...jobs(), ...rest());
listen();
const firstBad = data.jobs.find((entry) => !good(entry));
if (firstBad || data.jobs.length === 1) (firstBad || data.jobs[0]).open();
follow();
}
