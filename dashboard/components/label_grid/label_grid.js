// The labeling loop. Position, answers and journal live here; the server records events and hands out faces.
//
// To the server, one state value "report": {client, journal, number, want, events: [all unacknowledged, oldest first]}.
// From the server, `data`: seen (number of the report it answers), acked [event ids], refused {event id: reason},
// batch {number, faces, pixels} only while that number is wanted. One report is in flight at a time, so slow runs never pile up.
// Each unacknowledged event has its own localStorage entry "<journal>/<event_id>": two tabs cannot overwrite each other.

const SIDE = 48
const FLUSH_MS = 700, FLUSH_EVENTS = 20, RETRY_MS = 2000, RETRY_MAX_MS = 8000, MAX_SENT = 500, REST_MS = 10000
const DWELL_MS = 120 // a press sooner than this after the paint was meant for the face before
const NAMES = { Semicolon: ";", Quote: "'", Comma: ",", Period: ".", Backspace: "Back", ArrowLeft: "\u2190", ArrowRight: "\u2192", Escape: "Esc" }
const BRIGHT = Uint8ClampedArray.from({ length: 256 }, (_, v) => 255 * (v / 255) ** 0.5)
const HELP = [["Space", "Skip"], ["Z", "Undo (or Backspace)"], ["Shift+Z", "Redo"], ["\u2190 \u2192", "Look back and forward"], ["0", "Cannot tell"],
  ["G", "Brighten while held"], ["X", "Zoom while held"], ["Shift+flag", "Set or clear a flag and stay"], ["Esc", "Pause"], ["H or ?", "This list"]]
const TEMPLATE = `
  <div class="stage"><canvas width="${SIDE}" height="${SIDE}" role="img" data-testid="face"></canvas>
    <div class="veil" hidden><p data-testid="veil"></p><button type="button" data-act="again" data-testid="again" hidden>Look again</button></div>
    <p class="where" data-testid="where" hidden></p></div>
  <div class="questions"></div>
  <div class="row tools"><span class="flags"></span>
    <button type="button" data-act="skip" data-testid="skip">Skip</button>
    <button type="button" data-act="back" data-testid="back" aria-label="Look back">Back</button>
    <button type="button" data-act="forward" data-testid="forward" aria-label="Look forward">Forward</button><span class="gap"></span>
    <button type="button" data-act="pause" data-testid="pause">Pause</button>
    <button type="button" data-act="help" data-testid="help">Keys</button></div>
  <div class="row status"><span class="last" data-testid="last"></span>
    <button type="button" data-act="undo" data-testid="undo">Undo</button><button type="button" data-act="redo" data-testid="redo">Redo</button>
    <span class="gap"></span><span data-testid="rate"></span><span data-testid="remaining"></span><span class="saved" data-testid="saved"></span></div>
  <p class="problem" role="alert" data-testid="problem" hidden></p>
  <div class="help" role="group" aria-label="Keys" data-testid="keys" hidden><dl></dl><button type="button" data-act="help">Close</button></div>`
const FIXED = { Space: "skip", Backspace: "undo", KeyZ: "undo", ArrowLeft: "back", ArrowRight: "forward", KeyH: "help", Escape: "pause",
  KeyG: "bright", KeyX: "zoom", Digit0: "cannotTell" }
const PAGE = 'body, [data-testid="stApp"], [data-testid="stMain"]' // has focus when nothing has
const HINTS = { skip: "Space", undo: "KeyZ", redo: "Shift+KeyZ", back: "ArrowLeft", forward: "ArrowRight", pause: "Escape", help: "KeyH" }

let last = [0, 0] // UUIDv7 with a 12-bit counter: ids of one tab sort in the order they were made
function uuid7() {
  const now = Date.now()
  last = now > last[0] ? [now, 0] : last[1] < 4095 ? [last[0], last[1] + 1] : [last[0] + 1, 0]
  const hex = last[0].toString(16).padStart(12, "0") + "7" + last[1].toString(16).padStart(3, "0")
  const random = crypto.getRandomValues(new Uint8Array(8))
  random[0] = (random[0] & 63) | 128
  const all = hex + Array.from(random, b => b.toString(16).padStart(2, "0")).join("")
  return all.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")
}

function unpack(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64)
  const text = atob(base64), out = new Uint8Array(text.length)
  for (let i = 0; i < out.length; i++) out[i] = text.charCodeAt(i)
  return out
}

const instances = new WeakMap() // parent element -> LabelGrid
const resting = new Map() // journal -> LabelGrid that Streamlit unmounted a moment ago, which it does now and then after a lost connection

export default function (component) {
  const { parentElement, data } = component
  let grid = instances.get(parentElement)
  if (grid && grid.journal !== data.journal) { grid.close(); grid = null } // another person or queue: start afresh
  if (!grid) {
    instances.set(parentElement, (grid = resting.get(data.journal) ?? new LabelGrid(data.journal)))
    resting.delete(data.journal)
    grid.open(parentElement)
  }
  grid.receive(component)
  return () => {
    grid.close()
    instances.delete(parentElement)
    resting.set(grid.journal, grid)
    setTimeout(() => resting.get(grid.journal) === grid && resting.delete(grid.journal), REST_MS)
  }
}

class LabelGrid {
  constructor(journal) {
    Object.assign(this, { journal, client: uuid7(), faces: [], index: new Map(), cursor: 0, gestures: [], undone: [], ghost: null,
      pending: new Map(), made: 0, saved: 0, refused: 0, stalls: 0, problem: "", passes: [], want: 1, wantSent: undefined, number: 0, size: 0,
      exhausted: false, sent: 0, sentIds: new Set(), sentAt: 0, inFlight: false, patience: RETRY_MS, unsentSince: null, shape: "",
      paused: false, helping: false, bright: false, painted: null, shownAt: 0, shownTick: 0, layout: null })
    this.root = document.createElement("div")
    Object.assign(this.root, { className: "label-grid", tabIndex: 0, innerHTML: TEMPLATE })
    this.root.dataset.testid = "label-grid"
    this.root.setAttribute("role", "application")
    this.root.setAttribute("aria-label", "Label faces")
    this.canvas = this.root.querySelector("canvas")
    this.context = this.canvas.getContext("2d")
    this.image = this.context.createImageData(SIDE, SIDE)
    this.readJournal()
    this.root.onkeydown = e => this.onKey(e)
    this.root.onmousedown = e => { e.preventDefault(); this.root.focus({ preventScroll: true }) } // a click leaves the keys with the loop
    this.root.onclick = e => { const b = e.target.closest("button"); if (b) this.act(b.dataset.act, { ...b.dataset, stay: e.shiftKey }) }
    navigator.keyboard?.getLayoutMap?.().then(map => { this.layout = map; this.hints() }, () => {})
  }

  open(parent) {
    parent.appendChild(this.root)
    const signal = (this.listeners = new AbortController()).signal
    addEventListener("keydown", e => this.onPageKey(e), { capture: true, signal })
    addEventListener("keyup", e => FIXED[e.code] && this.release(FIXED[e.code]), { capture: true, signal })
    addEventListener("blur", () => { this.release("bright"); this.release("zoom") }, { signal })
    this.timer = setInterval(() => this.tick(), 100)
    this.root.focus({ preventScroll: true })
  }

  close() { clearInterval(this.timer); this.listeners.abort(); this.root.remove() }
  find(id) { return this.root.querySelector(`[data-testid="${id}"]`) }

  // ---- journal -----------------------------------------------------------------------------------------------------------
  readJournal() {
    try {
      const own = name => name.startsWith(this.journal + "/") && name.lastIndexOf("/") === this.journal.length
      for (const name of Object.keys(localStorage).filter(own).sort()) {
        const entry = JSON.parse(localStorage.getItem(name))
        this.pending.set(entry.event.event_id, entry)
      }
    } catch (error) { this.noJournal(error) }
    this.made = this.pending.size
    const off = new Set() // events undone within the journal
    for (const { event } of this.pending.values()) event.op === "undo" ? off.add(event.target) : event.op === "redo" && off.delete(event.target)
    this.replay = [...this.pending.values()].filter(({ event }) => ["set", "unset", "skip"].includes(event.op) && !off.has(event.event_id))
  }

  keep(event, passed) {
    this.pending.set(event.event_id, { event, passed })
    this.made += 1
    try { localStorage.setItem(`${this.journal}/${event.event_id}`, JSON.stringify({ event, passed })) }
    catch (error) { this.noJournal(error) }
  }

  noJournal(error) { this.problem = `This browser keeps no journal (${error.message}). Keep this page open until all answers are saved.` }

  drop(id) {
    const entry = this.pending.get(id)
    this.pending.delete(id)
    try { localStorage.removeItem(`${this.journal}/${id}`) } catch { /* storage is off: said when the event was kept */ }
    return entry?.event
  }

  // ---- server ------------------------------------------------------------------------------------------------------------
  receive(component) {
    this.component = component
    const data = (this.data = component.data)
    if (data.client === this.client && data.seen >= this.sent) Object.assign(this, { inFlight: false, patience: RETRY_MS })
    for (const id of data.acked) if (this.drop(id)) this.saved += 1
    for (const [id, reason] of Object.entries(data.refused)) {
      const event = this.drop(id)
      if (!event) continue
      this.refused += 1
      this.problem = `Not saved: ${reason}`
      const face = this.faces[this.index.get(event.image_id)]
      if (face && event.op === "set" && face.answers[event.field] === event.value) delete face.answers[event.field]
      const other = g => !g.events.some(e => e.event_id === id)
      Object.assign(this, { gestures: this.gestures.filter(other), undone: this.undone.filter(other) })
    }
    const shape = JSON.stringify([data.questions, data.flags])
    if (shape !== this.shape) { this.shape = shape; this.build() }
    if (data.batch?.number === this.want && data.client === this.client) this.take(data.batch)
    this.draw()
    this.tick()
  }

  take(batch) {
    const pixels = unpack(batch.pixels), waiting = this.cursor >= this.faces.length
    batch.faces.forEach(({ image_id, answers }, i) => {
      if (this.index.has(image_id)) return
      const face = { image_id, answers: { ...answers }, passed: false, pixels: pixels.subarray(i * SIDE * SIDE, (i + 1) * SIDE * SIDE) }
      for (const { event, passed } of this.replay.filter(r => r.event.image_id === image_id)) {
        if (event.op === "set") face.answers[event.field] = event.value
        if (event.op === "unset") delete face.answers[event.field]
        face.passed = passed
      }
      this.index.set(image_id, this.faces.push(face) - 1)
    })
    Object.assign(this, { number: batch.number, want: null, exhausted: !batch.faces.length, size: Math.max(this.size, batch.faces.length) })
    if (waiting) this.cursor = this.next(this.cursor - 1)
    this.askForMore()
  }

  askForMore() {
    const left = this.faces.slice(this.cursor).filter(f => !f.passed).length
    if (this.want === null && !this.exhausted && left < this.size / 2) this.want = this.number + 1
  }

  tick() {
    const now = performance.now(), unsent = [...this.pending.keys()].filter(id => !this.sentIds.has(id)).length
    this.unsentSince = unsent ? this.unsentSince ?? now : null
    const overdue = now - this.sentAt >= this.patience
    const due = this.want !== this.wantSent || unsent >= FLUSH_EVENTS || (unsent && now - this.unsentSince >= FLUSH_MS) ||
      (overdue && (this.pending.size || this.want !== null))
    if (due && (!this.inFlight || overdue)) {
      if (this.inFlight) this.patience = Math.min(2 * this.patience, RETRY_MAX_MS)
      const events = [...this.pending.values()].slice(0, MAX_SENT).map(entry => entry.event)
      Object.assign(this, { inFlight: true, sentAt: now, sentIds: new Set(events.map(e => e.event_id)), wantSent: this.want, unsentSince: null })
      this.component.setStateValue("report", { client: this.client, journal: this.journal, number: ++this.sent, want: this.want, events })
    }
    if (now - (this.countedAt ?? 0) >= 1000) this.count(now)
  }

  // ---- acts --------------------------------------------------------------------------------------------------------------
  onPageKey(e) { // focus fell back to the page (a click on its background): the keys still belong to the loop
    if (!e.target.matches?.(PAGE) || !this.root.offsetParent || document.querySelector('[role="dialog"]')) return
    this.root.focus({ preventScroll: true })
    this.onKey(e)
  }

  onKey(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return
    e.stopPropagation() // Streamlit acts on r and c
    if (["Space", "Enter"].includes(e.code) && e.target.closest?.("button")) return // a button reached with Tab
    const [name, info] = e.key === "?" ? ["help", {}] : e.code === "KeyZ" && e.shiftKey ? ["redo", {}] : this.keys.get(e.code) ?? [FIXED[e.code], {}]
    if (!name) return
    e.preventDefault()
    if (e.repeat) return
    this.act(name, { ...info, stay: e.shiftKey })
    if (window.__fercorePaint) {
      const paint = { key: e.code, pressed: e.timeStamp }
      requestAnimationFrame(() => requestAnimationFrame(() => window.__fercorePaint.push({ ...paint, ms: performance.now() - paint.pressed })))
    }
  }

  act(name, { field, value, stay }) {
    if (name === "help") this.helping = !this.helping
    else if (name === "pause") this.helping ? (this.helping = false) : this.pause()
    else if (name === "again") Object.assign(this, { want: this.number + 1, exhausted: false })
    else if (this.helping || this.paused) return
    else if (name === "undo") this.undo()
    else if (name === "redo") this.redo()
    else if (name === "back") this.cursor = Math.max(0, this.cursor - 1)
    else if (name === "forward") this.cursor = Math.min(this.cursor + 1, this.frontier())
    else if (name === "bright") this.bright = true
    else if (name === "zoom") this.root.classList.add("zoomed")
    else if (!this.faces[this.cursor]) return
    else if (performance.now() - this.shownTick < DWELL_MS) return this.shake()
    else if (name === "skip") this.record("skip", this.data.questions[0].field, null, true) // names the pass that it skips
    else if (name === "answer") this.record("set", field, value, false)
    else if (name === "cannotTell") this.record("set", field ?? this.question().field, this.data.cannot_tell, false)
    else if (name === "flag" && !stay) this.record("set", field, "yes", true)
    else if (name === "flag") this.record(this.faces[this.cursor].answers[field] ? "unset" : "set", field, "yes", false)
    this.askForMore()
    this.draw()
  }

  release(name) {
    if (name === "bright" && this.bright) { this.bright = false; this.paint() }
    if (name === "zoom") this.root.classList.remove("zoomed")
  }

  pause() { this.paused = !this.paused; this.painted = null } // painting anew restarts the time on this face
  question() { const a = this.faces[this.cursor]?.answers ?? {}; return this.data.questions.find(q => !(q.field in a)) ?? this.data.questions[0] }
  next(from) { let i = from + 1; while (this.faces[i]?.passed) i += 1; return i } // the first face after `from` that waits for an answer
  frontier() { const i = this.faces.findLastIndex(f => f.passed); return i < 0 ? this.next(-1) : this.next(i) }

  event(op, face, field, value, gesture, target = null) {
    const now = performance.now()
    return { event_id: uuid7(), op, image_id: face.image_id, field, value, target, gesture, lead_ms: Math.round(now - this.shownTick),
      shown_at: this.shownAt, decided_at: Date.now(), mode: "single" }
  }

  record(op, field, value, advance) {
    const face = this.faces[this.cursor], before = { answers: { ...face.answers }, passed: face.passed }
    const asked = this.data.questions.some(q => q.field === field)
    if (op === "set") face.answers[field] = value
    if (op === "unset") delete face.answers[field]
    const go = advance || (asked && this.data.questions.every(q => q.field in face.answers))
    face.passed ||= go
    const event = this.event(op, face, field, op === "unset" ? null : value, uuid7())
    this.keep(event, face.passed)
    this.gestures.push({ face, before, after: { answers: { ...face.answers }, passed: face.passed }, events: [event] })
    Object.assign(this, { undone: [], ghost: null })
    if (go) { this.passes.push(performance.now()); this.cursor = this.next(this.cursor) }
  }

  undo() {
    const g = this.gestures.pop()
    if (!g) return this.shake()
    Object.assign(g.face, { answers: { ...g.before.answers }, passed: g.before.passed })
    const gesture = uuid7()
    for (const e of g.events.toReversed()) this.keep(this.event("undo", g.face, e.field, null, gesture, e.event_id), g.face.passed)
    this.undone.push(g)
    Object.assign(this, { cursor: this.index.get(g.face.image_id), ghost: g })
  }

  redo() {
    const g = this.undone.pop()
    if (!g) return this.shake()
    Object.assign(g.face, { answers: { ...g.after.answers }, passed: g.after.passed })
    const gesture = uuid7(), at = this.index.get(g.face.image_id)
    for (const e of g.events) this.keep(this.event("redo", g.face, e.field, null, gesture, e.event_id), g.face.passed)
    this.gestures.push(g)
    Object.assign(this, { cursor: g.after.passed ? this.next(at) : at, ghost: null })
  }

  shake() {
    this.root.classList.remove("shake")
    void this.canvas.offsetWidth // restarts the animation
    this.root.classList.add("shake")
  }

  // ---- drawing -----------------------------------------------------------------------------------------------------------
  button(act, { field, value, label, colour, codes }) {
    const b = document.createElement("button")
    Object.assign(b, { type: "button", title: label })
    Object.assign(b.dataset, { act, field, value: value ?? "", label, codes: codes.join(" "), testid: `${act}-${field}${value ? "-" + value : ""}` })
    const name = b.appendChild(document.createElement("span"))
    name.className = "name"
    name.textContent = label
    if (colour) b.style.setProperty("--class", colour)
    return b
  }

  build() {
    this.keys = new Map()
    const box = this.root.querySelector(".questions"), flags = this.root.querySelector(".flags")
    box.replaceChildren(...this.data.questions.map(q => {
      const row = document.createElement("div")
      row.className = "question"
      row.setAttribute("role", "group")
      row.setAttribute("aria-label", q.label)
      row.dataset.field = q.field
      if (this.data.questions.length > 1) row.appendChild(document.createElement("span")).textContent = q.label
      for (const c of q.choices) {
        row.append(this.button("answer", { field: q.field, ...c, codes: c.keys }))
        for (const code of c.keys) this.keys.set(code, ["answer", { field: q.field, value: c.value }])
      }
      row.append(this.button("cannotTell", { field: q.field, value: this.data.cannot_tell, label: "Cannot tell", codes: ["Digit0"] }))
      return row
    }))
    flags.replaceChildren(...this.data.flags.map(f => {
      this.keys.set(f.key, ["flag", { field: f.field }])
      return this.button("flag", { ...f, codes: [f.key] })
    }))
    for (const [act, codes] of Object.entries(HINTS)) for (const b of this.root.querySelectorAll(`.row [data-act="${act}"]`)) {
      Object.assign(b.dataset, { codes, label: b.getAttribute("aria-label") ?? b.textContent })
    }
    this.hints()
  }

  hints() { // shows what a physical key is called on this keyboard, where the browser tells
    const one = code => this.layout?.get(code)?.toUpperCase() ?? NAMES[code] ?? code.replace(/^(Key|Digit)/, "")
    const all = b => b.dataset.codes.split(" ").map(code => code.split("+").map(one).join("+"))
    const pair = (tag, text) => Object.assign(document.createElement(tag), { textContent: text })
    for (const b of this.root.querySelectorAll("[data-codes]")) {
      b.querySelector(".keys")?.remove()
      b.appendChild(pair("span", "")).className = "keys"
      b.lastChild.append(...all(b).map(key => pair("kbd", key)))
      b.setAttribute("aria-label", `${b.dataset.label}, key ${all(b).join(" or ")}`)
    }
    const own = [...this.root.querySelectorAll('[data-act="answer"], [data-act="flag"]')].map(b => [all(b).join(" or "), b.dataset.label])
    this.root.querySelector(".help dl").replaceChildren(...[...own, ...HELP].map(([key, what]) => {
      const row = document.createElement("div")
      row.append(pair("dt", key), pair("dd", what))
      return row
    }))
  }

  paint() {
    const face = this.faces[this.cursor], out = this.image.data
    for (let i = 0; i < SIDE * SIDE; i++) {
      const v = this.bright ? BRIGHT[face.pixels[i]] : face.pixels[i]
      out[4 * i] = out[4 * i + 1] = out[4 * i + 2] = v
      out[4 * i + 3] = 255
    }
    this.context.putImageData(this.image, 0, 0)
  }

  stamp() {
    Object.assign(this, { shownAt: Date.now(), shownTick: performance.now() })
    this.root.dataset.shown = Math.round(this.shownTick)
  }

  draw() {
    const face = this.paused ? undefined : this.faces[this.cursor], set = this.root.dataset
    const veil = this.paused ? "Paused. Press Esc to go on." : face ? "" : this.exhausted ? this.data.empty : "Loading faces"
    this.canvas.hidden = !face
    if (!face && !this.paused && this.painted && !this.exhausted) this.stalls += 1
    if (face) this.paint()
    if (face !== this.painted) {
      this.painted = face
      this.stamp()
      requestAnimationFrame(() => this.painted === face && this.stamp()) // on a busy machine the screen follows later
    }
    Object.assign(set, { imageId: face?.image_id ?? "", made: this.made, saved: this.saved, refused: this.refused, stalls: this.stalls,
      bright: this.bright, paused: this.paused, batch: this.number })
    this.canvas.setAttribute("aria-label", face ? `Face ${this.cursor + 1}` : "No face")
    this.root.querySelector(".veil").hidden = !veil
    this.find("veil").textContent = veil
    this.find("again").hidden = this.paused || !this.exhausted || Boolean(face)
    this.find("keys").hidden = !this.helping
    const behind = this.faces.slice(this.cursor, this.frontier()).length
    Object.assign(this.find("where"), { hidden: !face || !behind || this.ghost?.face === face,
      textContent: `Looking back: ${behind} ${behind === 1 ? "face" : "faces"} behind` })
    const ghost = face && this.ghost?.face === face ? this.ghost.after.answers : {}, current = this.question()
    for (const b of this.root.querySelectorAll('[data-act="answer"], [data-act="cannotTell"], [data-act="flag"]')) {
      const value = b.dataset.value || "yes", given = face?.answers[b.dataset.field]
      b.setAttribute("aria-pressed", given === value)
      b.classList.toggle("undone", given !== value && ghost[b.dataset.field] === value)
    }
    for (const b of this.root.querySelectorAll(".questions button, .flags button, [data-act=skip]")) b.setAttribute("aria-disabled", !face)
    for (const row of this.root.querySelectorAll(".question")) row.classList.toggle("current", row.dataset.field === current.field)
    this.find("undo").setAttribute("aria-disabled", !this.gestures.length)
    this.find("redo").setAttribute("aria-disabled", !this.undone.length)
    const g = this.ghost ?? this.gestures.at(-1), e = g?.events.at(-1)
    const same = b => b.dataset.field === e?.field && (b.dataset.value || "yes") === (e.value ?? "yes")
    const pressed = e?.field ? [...this.root.querySelectorAll("[data-act][data-field]")].find(same) : undefined
    const what = e?.op === "skip" ? "skipped" : `${pressed?.dataset.label ?? ""}${e?.op === "unset" ? " cleared" : ""}`
    this.find("last").textContent = g ? `${this.ghost ? "Undone" : "Last"}: ${what}` : "No answer yet"
    this.find("last").style.setProperty("--class", pressed?.style.getPropertyValue("--class") ?? "")
    this.find("last").classList.toggle("coloured", Boolean(pressed?.style.getPropertyValue("--class")))
    Object.assign(this.find("problem"), { hidden: !this.problem, textContent: this.problem })
    this.count(performance.now())
  }

  count(now) {
    const whole = n => n.toLocaleString("en-US"), oldest = this.pending.values().next().value?.event.decided_at
    this.countedAt = now
    this.passes = this.passes.filter(t => now - t < 60000)
    const n = this.passes.length, late = oldest && Date.now() - oldest > 10000
    const local = [...new Map([...this.pending.values()].map(p => [p.event.image_id, p.passed])).values()].filter(Boolean).length
    this.find("rate").textContent = n < 5 ? "" : `${Math.round(((n - 1) * 60000) / Math.max(now - this.passes[0], 1))} a minute`
    this.find("remaining").textContent = `${whole(Math.max(this.data.total - this.data.done - local, 0))} remaining`
    this.find("saved").title = late ? "Your answers are kept in this browser. If this lasts, reload the page: they are sent again." : ""
    const extra = `${this.refused ? `, ${whole(this.refused)} refused` : ""}${late ? ", waiting for the server" : ""}`
    this.find("saved").textContent = `Saved ${whole(this.saved)} of ${whole(this.made)}${extra}`
    this.root.classList.toggle("late", Boolean(late))
  }
}
