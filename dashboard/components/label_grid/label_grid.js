// The labeling loop. Position, answers and journal (Outbox) live here; the server records events and hands out faces.
//
// Asked of the server: want (number of a batch), past (page of earlier gestures), keys (a changed key map); null when nothing is.
// From the server, `data`: batch {number, lease, faces, pixels} and past {page, gestures, undone, more, faces, pixels} while they are asked for,
// lost [image ids], codes {act: keys in force}, defaults {act: keys}, keys {act: keys this person changed, on any page}.

const SIDE = 48
const DWELL_MS = 120 // a press sooner than this after the paint was meant for the face before
const UNDO_AHEAD = 10 // gestures left to undo when earlier ones are asked for
const VERDICT_MS = 900, AWAY_MS = 300000, REST_AFTER_MS = 25 * 60000, PAUSE_MS = 60000
const NAMES = { Semicolon: ";", Quote: "'", Comma: ",", Period: ".", Slash: "/", Backslash: "\\", BracketLeft: "[", BracketRight: "]", Minus: "-",
  Equal: "=", Backquote: "`", Backspace: "Back", ArrowLeft: "\u2190", ArrowRight: "\u2192", ArrowUp: "\u2191", ArrowDown: "\u2193", Escape: "Esc" }
const BRIGHT = Uint8ClampedArray.from({ length: 256 }, (_, v) => 255 * (v / 255) ** 0.5)
const LABELS = { cannot_tell: "Cannot tell", skip: "Skip", undo: "Undo", redo: "Redo", back: "Look back", forward: "Look forward",
  comment: "Comment", bright: "Brighten while held", zoom: "Zoom while held", help: "This list" }
const TEMPLATE = `
  <div class="stage"><canvas width="${SIDE}" height="${SIDE}" role="img" data-testid="face"></canvas>
    <div class="veil" hidden><p data-testid="veil"></p><button type="button" data-act="again" data-testid="again" hidden>Look again</button></div>
    <p class="where" data-testid="where" hidden></p>
    <p class="rest" data-testid="rest" hidden><span></span> <button type="button" data-act="pause">Pause</button></p>
    <div class="verdict" data-testid="verdict" hidden><span></span> <button type="button" data-act="proceed" data-testid="next">Next</button></div>
    <div class="comment" hidden><input maxlength="500" aria-label="Comment on this face" data-testid="comment-text">
      <button type="button" data-act="sendComment" data-testid="comment-save">Save</button>
      <button type="button" data-act="closeComment" data-testid="comment-close">Close</button></div></div>
  <p class="note" data-testid="note" hidden></p>
  <div class="questions"></div>
  <div class="row tools"><span class="flags"></span>
    <button type="button" data-act="skip" data-bound="skip" data-label="Skip" data-testid="skip">Skip</button>
    <button type="button" data-act="back" data-bound="back" data-label="Look back" data-testid="back">Back</button>
    <button type="button" data-act="forward" data-bound="forward" data-label="Look forward" data-testid="forward">Forward</button>
    <button type="button" data-act="seconding" data-testid="second"
      aria-label="2nd: the next answer is a second one, or Alt with its key">2nd</button>
    <button type="button" data-act="comment" data-bound="comment" data-label="Comment" data-testid="comment">Comment</button><span class="gap"></span>
    <button type="button" data-act="pause" data-bound="pause" data-label="Pause" data-testid="pause">Pause</button>
    <button type="button" data-act="help" data-bound="help" data-label="Keys" data-testid="help">Keys</button></div>
  <div class="row status"><span class="last" data-testid="last"></span>
    <button type="button" data-act="undo" data-bound="undo" data-label="Undo" data-testid="undo">Undo</button>
    <button type="button" data-act="redo" data-bound="redo" data-label="Redo" data-testid="redo">Redo</button>
    <span class="gap"></span><span data-testid="practice" hidden></span><span data-testid="rate"></span><span data-testid="remaining"></span>
    <span class="saved" data-testid="saved"></span></div>
  <p class="problem" role="alert" data-testid="problem" hidden></p>
  <p class="unseen" aria-live="polite" data-testid="live"></p>
  <div class="help" role="group" aria-label="Keys" data-testid="keys" hidden>
    <p class="clash" role="alert" data-testid="keys-problem"></p><div class="list"></div>
    <div class="row"><button type="button" data-act="edit" data-testid="keys-edit">Change keys</button>
      <button type="button" data-act="keepKeys" data-testid="keys-done">Done</button>
      <button type="button" data-act="resetKeys" data-testid="keys-reset">Reset to defaults</button>
      <button type="button" data-act="help" data-testid="keys-close">Close</button></div></div>`
const PAGE = 'body, [data-testid="stApp"], [data-testid="stMain"]' // has focus when nothing has
const HOLD = ["bright", "zoom"]
const same = (a, b) => JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort())
const waits = face => !face.passed && !face.lost

class LabelGrid {
  constructor(journal) {
    Object.assign(this, { outbox: new Outbox(journal), faces: [], index: new Map(), cursor: 0, gestures: [], undone: [], ghost: null, stalls: 0,
      problem: "", passes: [], want: null, number: 0, size: 0, exhausted: false, past: null, pastPage: 0, more: true, acted: false, owed: [],
      known: new Set(), shape: "", paused: false, pausedAt: 0, helping: false, bright: false, seconding: false, commenting: null, verdict: null,
      tried: 0, right: 0, keysWish: null, editing: false, capturing: null, lastAct: null, workingSince: null, painted: null, shownAt: 0,
      shownTick: 0, layout: null, said: "" })
    this.root = document.createElement("div")
    Object.assign(this.root, { className: "label-grid", tabIndex: 0, innerHTML: TEMPLATE })
    this.root.dataset.testid = "label-grid"
    this.root.setAttribute("role", "application")
    this.root.setAttribute("aria-label", "Label faces")
    this.canvas = this.root.querySelector("canvas")
    this.context = this.canvas.getContext("2d")
    this.image = this.context.createImageData(SIDE, SIDE)
    this.input = this.find("comment-text")
    this.root.onkeydown = e => this.onKey(e)
    this.root.onmousedown = e => { // a click leaves the keys with the loop
      if (e.target === this.input) return
      e.preventDefault()
      this.root.focus({ preventScroll: true })
    }
    this.root.onclick = e => {
      const b = e.target.closest("button")
      if (b) this.act(b.dataset.act, { ...b.dataset, stay: e.shiftKey, second: e.altKey })
    }
    navigator.keyboard?.getLayoutMap?.().then(map => { this.layout = map; this.shape && this.hints() }, () => {})
  }

  open(parent) {
    parent.appendChild(this.root)
    const signal = (this.listeners = new AbortController()).signal
    addEventListener("keydown", e => this.onPageKey(e), { capture: true, signal })
    const held = code => HOLD.filter(name => this.codes?.[name].some(c => c.replace("Shift+", "") === code))
    addEventListener("keyup", e => held(e.code).forEach(name => this.release(name)), { capture: true, signal })
    addEventListener("blur", () => HOLD.forEach(name => this.release(name)), { signal })
    this.timer = setInterval(() => this.tick(), 100)
    this.root.focus({ preventScroll: true })
  }

  close() { clearInterval(this.timer); this.listeners.abort(); this.root.remove() }
  find(id) { return this.root.querySelector(`[data-testid="${id}"]`) }

  // ---- server ------------------------------------------------------------------------------------------------------------
  receive(component) {
    const data = (this.data = component.data)
    for (const [event] of this.outbox.receive(component)) {
      const face = this.index.get(event.image_id), other = g => !g.events.some(e => e.event_id === event.event_id)
      if (face && event.op === "set" && face.answers[event.field] === event.value) delete face.answers[event.field]
      Object.assign(this, { gestures: this.gestures.filter(other), undone: this.undone.filter(other) })
    }
    if (data.refused.keys && this.keysWish) Object.assign(this, { keysWish: null, problem: `Keys not kept: ${data.refused.keys}` })
    if (this.keysWish && same(this.keysWish, data.keys)) this.keysWish = null
    if (!this.keysWish && !this.editing) Object.assign(this, { codes: data.codes, own: data.keys })
    if (this.form() !== this.shape) this.build()
    for (const id of data.lost) if (this.index.has(id)) this.index.get(id).lost = !this.index.get(id).passed
    if (data.client === this.outbox.client) {
      if (data.batch && data.batch.number === this.want) this.take(data.batch)
      if (data.past && data.past.page === this.past) this.remember(data.past)
    }
    if (this.faces[this.cursor]?.lost) this.cursor = this.next(this.cursor)
    this.draw()
    this.tick()
  }

  unpacked({ faces, pixels }) {
    const all = unpack(pixels), part = i => all.subarray(i * SIDE * SIDE, (i + 1) * SIDE * SIDE)
    return faces.map((f, i) => ({ ...f, answers: { ...f.answers }, passed: false, lost: false, lease: null, pixels: part(i) }))
  }

  take(batch) {
    const due = new Set([...this.outbox.pending.values()].map(entry => entry.event.image_id))
    for (const face of this.unpacked(batch)) {
      const old = this.index.get(face.image_id), at = this.faces.indexOf(old), lease = batch.lease || null
      if (old && waits(old) && at >= this.cursor) old.lease = lease
      else if (!old || waits(old) || !due.has(face.image_id)) { // what it was last told is what the server knew: it wants this face again
        if (old) this.faces.splice(at, 1)
        if (old && at < this.cursor) this.cursor -= 1
        const again = old ?? face
        this.faces.push(Object.assign(again, { answers: face.answers, passed: false, lost: false, lease }))
        this.index.set(again.image_id, again)
      }
    }
    if (!batch.faces.length) this.empty = this.data.empty // later runs need not say it again
    Object.assign(this, { number: batch.number, want: null, exhausted: !batch.faces.length, size: Math.max(this.size, batch.faces.length) })
  }

  // Earlier gestures go under what was done since; their faces can be looked back at, but do not wait.
  remember(past) {
    const memory = this.unpacked(past).filter(f => !this.index.has(f.image_id))
    for (const face of memory) this.index.set(face.image_id, Object.assign(face, { passed: true }))
    this.faces.unshift(...memory)
    this.cursor += memory.length
    const known = g => !this.index.has(g.image_id) || g.events.some(e => this.known.has(e.event_id))
    const taken = gestures => gestures.filter(g => !known(g)).map(g => {
      g.events.forEach(e => this.known.add(e.event_id))
      return { face: this.index.get(g.image_id), events: g.events, before: { answers: g.before, passed: g.passed_before },
        after: { answers: g.after, passed: g.passed_after } }
    })
    this.gestures.unshift(...taken(past.gestures))
    const undone = taken(past.undone)
    if (past.page === 1 && !this.acted) this.undone = undone
    Object.assign(this, { pastPage: past.page, past: null, more: past.more })
    while (this.owed.length && (this.gestures.length || !this.more || this.owed[0] === "redo")) this[this.owed.shift()]()
  }

  ask() { // what is wanted of the server now
    const left = this.faces.slice(this.cursor).filter(waits).length
    if (this.want === null && !this.exhausted && this.outbox.settled && left <= this.size / 2) this.want = this.number + 1
    if (this.data.practice) this.more = false
    if (this.past === null && this.more && this.outbox.settled && this.gestures.length < UNDO_AHEAD) this.past = this.pastPage + 1
    return { want: this.want, past: this.past, keys: this.keysWish }
  }

  tick() {
    if (!this.data) return
    const now = performance.now(), away = this.paused && now - this.pausedAt > AWAY_MS
    this.outbox.tick(this.ask(), document.visibilityState === "visible" && !away)
    const held = this.paused || this.helping || this.commenting
    if (this.verdict?.right && !held && now - this.verdict.since >= VERDICT_MS) { this.proceed(); this.draw() }
    if (now - (this.countedAt ?? 0) >= 1000) this.count(now)
  }

  // ---- acts --------------------------------------------------------------------------------------------------------------
  onPageKey(e) { // focus fell back to the page (a click on its background): the keys still belong to the loop
    if (!e.target.matches?.(PAGE) || !this.root.offsetParent || document.querySelector('[role="dialog"]')) return
    this.root.focus({ preventScroll: true })
    this.onKey(e)
  }

  onKey(e) {
    if (e.target === this.input) return this.onComment(e)
    if (e.ctrlKey || e.metaKey) return
    if (this.capturing) return this.capture(e)
    if (e.altKey && !this.data?.second) return
    e.stopPropagation() // Streamlit acts on r and c
    if (this.editing && e.code !== "Escape") return
    if (["Space", "Enter"].includes(e.code) && e.target.closest?.("button")) return // a button reached with Tab
    const exact = e.shiftKey && this.keys.get(`Shift+${e.code}`), found = exact || this.keys.get(e.code)
    const [name, info] = e.key === "?" ? ["help"] : e.code === "Escape" ? ["pause"] : e.code === "Enter" && this.verdict ? ["proceed"] : found ?? []
    if (!name || (e.altKey && name !== "answer")) return
    e.preventDefault()
    if (e.repeat) return
    this.act(name, { ...info, stay: e.shiftKey && !exact, second: e.altKey })
    if (window.__fercorePaint) {
      const paint = { key: e.code, pressed: e.timeStamp }
      requestAnimationFrame(() => requestAnimationFrame(() => window.__fercorePaint.push({ ...paint, ms: performance.now() - paint.pressed })))
    }
  }

  onComment(e) {
    e.stopPropagation()
    const name = e.isComposing ? null : { Enter: "sendComment", NumpadEnter: "sendComment", Escape: "closeComment" }[e.code]
    if (!name) return
    e.preventDefault()
    this.act(name, {})
  }

  act(name, { field, value, stay, second, rebind } = {}) {
    const now = performance.now()
    if (this.lastAct === null || now - this.lastAct >= PAUSE_MS) this.workingSince = now
    this.lastAct = now
    if (name === "sendComment" || name === "closeComment") this.comment(name === "sendComment")
    else if (this.commenting && name === "pause") this.comment(false)
    else if (this.commenting) { this.input.focus(); return this.shake() }
    else if (this.editing) this.edit(name, rebind)
    else if (name === "help") this.helping = !this.helping
    else if (name === "edit") this.edit(name)
    else if (name === "pause" && this.owed.length) this.owed = []
    else if (name === "pause") this.helping ? (this.helping = false) : this.pause()
    else if (name === "again") Object.assign(this, { want: this.number + 1, exhausted: false })
    else if (this.helping || this.paused) return
    else if (name === "bright") this.bright = true
    else if (name === "zoom") this.root.classList.add("zoomed")
    else if (this.owed.length && name !== "undo" && name !== "redo") return this.shake() // they were pressed for a face not yet here
    else if (name === "comment") this.faces[this.cursor] && this.write()
    else if (this.verdict && now - this.verdict.since < DWELL_MS) return this.shake()
    else if (this.verdict) this.proceed()
    else if (this.data.practice && ["undo", "redo", "back", "forward"].includes(name)) return this.shake()
    else if (name === "undo") this.undo()
    else if (name === "redo") this.owed.length ? this.owe("redo") : this.redo()
    else if (name === "back") this.look(-1)
    else if (name === "forward") this.look(1)
    else if (!this.faces[this.cursor]) return
    else if (name === "seconding") this.seconding = this.data.second && !this.seconding
    else if (now - this.shownTick < DWELL_MS) return this.shake()
    else if (name === "skip") this.record([["skip", this.data.questions[0].field, null]], true) // names the pass that it skips
    else if (name === "answer" && this.data.second && (second || this.seconding)) this.second(field, value)
    else if (name === "answer") this.answer(field, value)
    else if (name === "cannot_tell") this.answer(field ?? this.question().field, this.data.cannot_tell)
    else if (name === "flag" && !stay) this.record([["set", field, "yes"]], true)
    else if (name === "flag") this.record([this.faces[this.cursor].answers[field] ? ["unset", field, null] : ["set", field, "yes"]], false)
    this.draw()
  }

  release(name) {
    if (name === "bright" && this.bright) { this.bright = false; this.draw() }
    if (name === "zoom") this.root.classList.remove("zoomed")
  }

  pause() { Object.assign(this, { paused: !this.paused, pausedAt: performance.now(), painted: null }) } // painting anew restarts the time
  question() { const a = this.faces[this.cursor]?.answers ?? {}; return this.data.questions.find(q => !(q.field in a)) ?? this.data.questions[0] }
  next(from) { let i = from + 1; while (this.faces[i] && !waits(this.faces[i])) i += 1; return i } // the first face after `from` that waits
  frontier() { const i = this.faces.findLastIndex(f => f.passed); return i < 0 ? this.next(-1) : this.next(i) }

  look(step) {
    let at = this.cursor + step
    while (this.faces[at]?.lost) at += step
    if (at >= 0 && at <= this.frontier()) this.cursor = at
  }

  event(op, face, field, value, gesture, target = null) {
    const now = performance.now()
    return { event_id: uuid7(), op, image_id: face.image_id, field, value, target, gesture, lead_ms: Math.round(now - this.shownTick),
      shown_at: this.shownAt, decided_at: Date.now(), mode: "single", lease: face.lease }
  }

  answer(field, value) {
    const second = `${field}_2`, other = this.faces[this.cursor].answers[second], clear = other && [other, this.data.cannot_tell].includes(value)
    this.record([...(clear ? [["unset", second, null]] : []), ["set", field, value]], false)
  }

  second(field, value) {
    const { answers } = this.faces[this.cursor], second = `${field}_2`
    this.seconding = false
    if ([value, this.data.cannot_tell].includes(answers[field])) return this.shake()
    this.record([answers[second] === value ? ["unset", second, null] : ["set", second, value]], false)
  }

  // One gesture on the painted face. It is passed when `advance`, or when the gesture answers a question and none is open.
  record(steps, advance) {
    const face = this.faces[this.cursor], before = { answers: { ...face.answers }, passed: face.passed }, gesture = uuid7()
    for (const [op, field, value] of steps) {
      if (op === "set") face.answers[field] = value
      if (op === "unset") delete face.answers[field]
    }
    const asked = steps.some(([, field]) => this.data.questions.some(q => q.field === field))
    const go = advance || (asked && this.data.questions.every(q => q.field in face.answers))
    face.passed ||= go
    this.push({ face, before, after: { answers: { ...face.answers }, passed: face.passed },
      events: steps.map(([op, field, value]) => this.event(op, face, field, value, gesture)) })
    if (!go) return
    this.passes.push(performance.now())
    if (this.data.practice) this.judge(face)
    else this.cursor = this.next(this.cursor)
  }

  push(g) {
    this.outbox.keep(g.events, g.after.passed)
    g.events.forEach(e => this.known.add(e.event_id))
    this.gestures.push(g)
    Object.assign(this, { undone: [], ghost: null, acted: true, seconding: false })
  }

  undo() {
    const g = this.gestures.pop()
    if (!g) return this.owe("undo")
    this.step("undo", g, g.before, g.events.toReversed())
    this.undone.push(g)
    this.ghost = g
    const at = this.faces.indexOf(g.face)
    if (at > this.cursor) this.faces.splice(this.cursor, 0, ...this.faces.splice(at, 1)) // out of its turn: the faces between still wait
    this.cursor = Math.min(at, this.cursor)
  }

  redo() {
    const g = this.undone.pop()
    if (!g) return this.shake()
    this.step("redo", g, g.after, g.events)
    this.gestures.push(g)
    this.ghost = null
    const at = this.faces.indexOf(g.face)
    this.cursor = g.after.passed ? this.next(Math.min(at, this.cursor) - 1) : at
  }

  step(op, g, { answers, passed }, events) {
    Object.assign(g.face, { answers: { ...answers }, passed })
    this.acted = true
    const gesture = uuid7()
    this.outbox.keep(events.map(e => this.event(op, g.face, e.field, null, gesture, e.event_id)), passed)
  }

  owe(name) { // nothing here to undo: waits for the server where it has more
    if (this.more) this.owed.push(name)
    this.shake()
  }

  write() {
    this.commenting = this.faces[this.cursor]
    this.root.querySelector(".comment").hidden = false
    this.input.value = ""
    this.input.focus()
  }

  comment(send) {
    const face = this.commenting, value = this.input.value.trim().slice(0, 500)
    if (!face || (send && !value)) return
    this.commenting = null
    this.root.querySelector(".comment").hidden = true
    this.root.focus({ preventScroll: true })
    if (!send) return
    const state = { answers: { ...face.answers }, passed: face.passed }
    this.push({ face, before: state, after: state, events: [this.event("comment", face, null, value, uuid7())] })
  }

  shake() {
    this.root.classList.remove("shake")
    void this.canvas.offsetWidth // restarts the animation
    this.root.classList.add("shake")
  }

  // ---- practice ----------------------------------------------------------------------------------------------------------
  judge(face) {
    const right = face.expected.includes(face.answers[this.data.questions[0].field])
    this.verdict = { face, right, since: performance.now() }
    this.tried += 1
    this.right += right
    this.root.dataset.shown = Math.round(this.verdict.since)
  }

  proceed() {
    this.verdict = null
    this.cursor = this.next(this.cursor)
  }

  // ---- keys --------------------------------------------------------------------------------------------------------------
  edit(name, act) {
    if (name === "rebind") Object.assign(this, { capturing: act, clash: "" })
    if (name === "edit") Object.assign(this, { editing: true, clash: "" })
    if (name === "resetKeys") {
      const elsewhere = Object.entries(this.own).filter(([act]) => !(act in this.data.defaults))
      Object.assign(this, { own: Object.fromEntries(elsewhere), codes: this.data.defaults, clash: "" })
    }
    if (name === "keepKeys") Object.assign(this, { editing: false, keysWish: !this.keysWish && same(this.own, this.data.keys) ? null : this.own })
    if (name === "help" || name === "pause") Object.assign(this, { editing: false, own: this.keysWish ?? this.data.keys, codes: this.kept })
    if (name === "edit") this.kept = this.codes
    this.build()
    const row = act ? this.root.querySelector(`[data-rebind="${act}"]`) : this.root.querySelector("[data-rebind]")
    ;(this.editing ? row : this.root).focus({ preventScroll: true })
  }

  capture(e) {
    e.preventDefault()
    e.stopPropagation()
    const act = this.capturing, code = `${e.shiftKey ? "Shift+" : ""}${e.code}`
    if (e.repeat || /^(Shift|Control|Alt|Meta|OS)(Left|Right)?$|^$/.test(e.code)) return
    this.capturing = null
    const means = (name, codes) => (name.startsWith("flag ") ? [...codes, ...codes.map(c => `Shift+${c}`)] : codes) // with Shift it stays
    const taken = ([name, codes]) => name !== act && means(name, codes).some(c => means(act, [code]).includes(c))
    const other = Object.entries(this.codes).find(taken)
    if (e.code === "Escape") this.clash = ""
    else if (["Tab", "Enter", "NumpadEnter"].includes(e.code)) this.clash = `${this.keyName(code)} cannot be changed. Choose another key.`
    else if (!/^(Shift\+)?[A-Za-z][A-Za-z0-9]{0,23}$/.test(code)) this.clash = "This key has no name. Choose another key."
    else if (other) this.clash = `${this.keyName(code)} is already "${this.label(other[0])}". Choose another key, or change that one first.`
    else {
      this.codes = { ...this.codes, [act]: [code] }
      this.own = Object.fromEntries(Object.entries({ ...this.own, [act]: [code] }).filter(([a, c]) => String(c) !== String(this.data.defaults[a])))
      this.clash = ""
    }
    this.edit("captured", act)
    this.draw()
  }

  keyName(code) { // what a physical key is called on this keyboard, where the browser tells
    const one = part => this.layout?.get(part)?.toUpperCase() ?? NAMES[part] ?? part.replace(/^(Key|Digit)/, "").replace("Numpad", "Num ")
    return code.split("+").map(one).join("+")
  }

  label(act) {
    const [, kind, field, value] = /^(answer|flag) ([\w-]+)=?(.*)$/.exec(act) ?? []
    if (!kind) return LABELS[act]
    if (kind === "flag") return this.data.flags.find(f => f.field === field).label
    return this.data.questions.find(q => q.field === field).choices.find(c => c.value === value).label
  }

  // ---- drawing -----------------------------------------------------------------------------------------------------------
  button(act, bound, { field, value, label, colour }) {
    const b = document.createElement("button")
    Object.assign(b, { type: "button", title: label })
    const id = `${act === "cannot_tell" ? "cannotTell" : act}-${field}${value ? "-" + value : ""}`
    Object.assign(b.dataset, { act, bound, field, value: value ?? "", label, testid: id })
    const name = b.appendChild(document.createElement("span"))
    name.className = "name"
    name.textContent = label
    if (colour) b.style.setProperty("--class", colour)
    return b
  }

  form() { return JSON.stringify([this.data.questions, this.data.flags, this.data.second, this.codes]) }

  build() {
    this.shape = this.form()
    const box = this.root.querySelector(".questions"), flags = this.root.querySelector(".flags")
    this.keys = new Map()
    for (const [act, codes] of Object.entries(this.codes)) {
      const [, name, field, value] = /^(answer|flag) ([\w-]+)=?(.*)$/.exec(act) ?? [null, act]
      for (const code of codes) this.keys.set(code, [name, { field, value }])
    }
    box.replaceChildren(...this.data.questions.map(q => {
      const row = document.createElement("div")
      row.className = "question"
      row.setAttribute("role", "group")
      row.setAttribute("aria-label", q.label)
      row.dataset.field = q.field
      if (this.data.questions.length > 1) row.appendChild(document.createElement("span")).textContent = q.label
      for (const c of q.choices) row.append(this.button("answer", `answer ${q.field}=${c.value}`, { field: q.field, ...c }))
      row.append(this.button("cannot_tell", "cannot_tell", { field: q.field, value: this.data.cannot_tell, label: LABELS.cannot_tell }))
      return row
    }))
    flags.replaceChildren(...this.data.flags.map(f => this.button("flag", `flag ${f.field}`, f)))
    this.find("second").hidden = !this.data.second
    this.hints()
  }

  hints() {
    const element = (tag, text, name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name })
    const names = act => (act === "pause" ? ["Escape"] : this.codes[act]).map(code => this.keyName(code))
    for (const b of this.root.querySelectorAll("[data-bound]")) {
      const all = names(b.dataset.bound), shown = b.dataset.field && b.dataset.act !== "flag" ? all : all.slice(0, 1)
      b.querySelector(".keys")?.remove()
      b.appendChild(element("span", "", "keys")).append(...shown.map(key => element("kbd", key)))
      b.setAttribute("aria-label", `${b.dataset.label}, key ${all.join(" or ")}`)
    }
    const second = this.data.second ? [["Alt+answer", "Set or clear a second answer"]] : []
    const fixed = [...second, ["Shift+flag", "Set or clear a flag and stay"], ["Esc", "Pause"], ["?", "This list, whatever its key is"]]
    const rows = Object.keys(this.codes).map(act => [names(act).join(" or "), this.label(act), act])
    this.root.querySelector(".list").replaceChildren(...(this.editing ? rows : [...rows, ...fixed]).map(([key, what, act]) => {
      const row = element(this.editing ? "button" : "div", "")
      if (this.editing) {
        Object.assign(row, { type: "button" })
        Object.assign(row.dataset, { act: "rebind", rebind: act })
      }
      row.append(element("kbd", this.capturing && act === this.capturing ? "Press a key" : key), element("span", what))
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

  // What a gesture did, and the button that says so.
  described(g) {
    const e = g.events.at(-1), field = e.field?.replace(/_2$/, ""), value = e.value ?? g.before.answers[e.field] ?? "yes"
    if (e.op === "comment") return ["comment"]
    if (e.op === "skip") return ["skipped"]
    const b = [...this.root.querySelectorAll("[data-act][data-field]")].find(b => b.dataset.field === field && (b.dataset.value || "yes") === value)
    return [`${field === e.field ? "" : "second "}${b?.dataset.label ?? ""}${e.op === "unset" ? " cleared" : ""}`, b]
  }

  veil(face) {
    if (this.paused) return "Paused. Press Esc to go on."
    if (face) return ""
    if (this.exhausted) return this.empty
    return this.outbox.settled ? "Loading faces" : "Saving your earlier answers"
  }

  draw() {
    if (!this.data) return
    const face = this.paused ? undefined : this.faces[this.cursor], set = this.root.dataset, { outbox, data } = this, veil = this.veil(face)
    this.canvas.hidden = !face
    if (!face && !this.paused && this.painted && !this.exhausted) this.stalls += 1
    if (face) this.paint()
    if (face !== this.painted) {
      this.painted = face
      this.stamp()
      requestAnimationFrame(() => this.painted === face && !this.verdict && this.stamp()) // on a busy machine the screen follows later
    }
    Object.assign(set, { imageId: face?.image_id ?? "", made: outbox.made, saved: outbox.saved, refused: outbox.refused, stalls: this.stalls,
      bright: this.bright, paused: this.paused, batch: this.number, past: this.pastPage, undo: this.gestures.length, redo: this.undone.length })
    this.canvas.setAttribute("aria-label", face ? `Face ${this.cursor + 1}` : "No face")
    this.root.querySelector(".veil").hidden = !veil
    this.find("veil").textContent = veil
    this.find("again").hidden = this.paused || !this.exhausted || Boolean(face)
    this.drawHelp()
    const behind = this.faces.slice(this.cursor, this.frontier()).filter(f => !f.lost).length
    const back = face && behind && this.ghost?.face !== face && !data.practice
    const looking = `Looking back: ${behind} ${behind === 1 ? "face" : "faces"} behind`
    const waiting = this.owed.length ? "Loading earlier answers. Press Esc to go on without them." : ""
    Object.assign(this.find("where"), { hidden: !back && !waiting, textContent: waiting || looking })
    const ghost = face && this.ghost?.face === face ? this.ghost.after.answers : {}, current = this.question()
    const expected = this.verdict && face === this.verdict.face ? face.expected : []
    for (const b of this.root.querySelectorAll("[data-act][data-field]")) {
      const value = b.dataset.value || "yes", { field } = b.dataset, given = face?.answers[field], second = face?.answers[`${field}_2`] === value
      b.setAttribute("aria-pressed", given === value)
      b.setAttribute("aria-description", second ? "second answer" : "")
      b.classList.toggle("second", second)
      b.classList.toggle("undone", given !== value && !second && [ghost[field], ghost[`${field}_2`]].includes(value))
      b.classList.toggle("expected", field === data.questions[0].field && expected.includes(value))
    }
    const needFace = ".questions button, .flags button, .tools :is([data-act=skip], [data-act=comment], [data-act=seconding])"
    for (const b of this.root.querySelectorAll(needFace)) b.setAttribute("aria-disabled", !face)
    for (const b of this.root.querySelectorAll("[data-act=back], [data-act=forward]")) b.setAttribute("aria-disabled", data.practice)
    for (const row of this.root.querySelectorAll(".question")) row.classList.toggle("current", row.dataset.field === current.field)
    this.find("second").setAttribute("aria-pressed", this.seconding)
    this.find("undo").setAttribute("aria-disabled", data.practice || !(this.gestures.length || this.more))
    this.find("redo").setAttribute("aria-disabled", data.practice || !this.undone.length)
    const g = this.ghost ?? this.gestures.at(-1), [what, button] = g ? this.described(g) : []
    const colour = button?.style.getPropertyValue("--class") ?? ""
    this.find("last").textContent = g ? `${this.ghost ? "Undone" : "Last"}: ${what}` : "No answer yet"
    this.find("last").style.setProperty("--class", colour)
    this.find("last").classList.toggle("coloured", Boolean(colour))
    this.drawVerdict(face)
    Object.assign(this.find("note"), { hidden: !data.note, textContent: data.note })
    const problem = outbox.problem || this.problem
    Object.assign(this.find("problem"), { hidden: !problem, textContent: problem })
    this.say(this.verdict ? this.find("verdict").firstChild.textContent : this.find("last").textContent, g)
    this.count(performance.now())
  }

  drawVerdict(face) {
    const line = this.find("verdict"), { questions, practice } = this.data
    line.hidden = !this.verdict || face !== this.verdict.face
    const names = values => values.map(v => (questions[0].choices.find(c => c.value === v)?.label ?? LABELS[v] ?? v).toLowerCase()).join(", ")
    if (!line.hidden) {
      line.firstChild.textContent = this.verdict.right ? `Right: ${names([face.answers[questions[0].field]])}` : `Others see: ${names(face.expected)}`
      line.classList.toggle("right", this.verdict.right)
    }
    Object.assign(this.find("practice"), { hidden: !practice || !this.tried, textContent: `${this.right} of ${this.tried} as expected` })
  }

  drawHelp() {
    this.find("keys").hidden = !this.helping
    const hint = this.capturing ? "Press the new key, or Esc to keep the old one." : "Choose a row, then press its new key."
    this.find("keys-problem").textContent = this.editing ? this.clash || hint : ""
    for (const [id, shown] of [["keys-edit", !this.editing], ["keys-done", this.editing], ["keys-reset", this.editing]]) this.find(id).hidden = !shown
    this.find("keys-close").textContent = this.editing ? "Cancel" : "Close"
  }

  say(text, gesture) { // read aloud once a gesture, also when two in a row read the same
    const key = `${text} ${gesture?.events.at(-1).event_id}`
    if (key === this.said) return
    this.said = key
    const live = this.find("live")
    live.textContent = live.textContent === text ? `${text}\u00a0` : text
  }

  count(now) {
    const whole = n => n.toLocaleString("en-US"), { pending, made, saved, refused, late } = this.outbox
    this.countedAt = now
    this.passes = this.passes.filter(t => now - t < 60000)
    const n = this.passes.length, rest = this.find("rest")
    const unsaved = new Map([...pending.values()].map(p => [p.event.image_id, p.passed]))
    const local = [...unsaved].filter(([id, passed]) => passed && this.index.has(id)).length
    this.find("rate").textContent = n < 5 ? "" : `${Math.round(((n - 1) * 60000) / Math.max(now - this.passes[0], 1))} a minute`
    this.find("remaining").textContent = `${whole(Math.max(this.data.total - this.data.done - local, 0))} remaining`
    const extra = `${refused ? `, ${whole(refused)} refused` : ""}${late ? ", the rest is kept in this browser until the server answers" : ""}`
    this.find("saved").textContent = `${whole(saved)} of ${whole(made)} saved${extra}`
    this.root.classList.toggle("late", Boolean(late))
    const worked = this.lastAct === null || now - this.lastAct >= PAUSE_MS ? 0 : now - this.workingSince
    rest.hidden = this.paused || worked < REST_AFTER_MS
    if (!rest.hidden) rest.firstChild.textContent = `${Math.floor(worked / 60000)} minutes without a break`
  }
}

export default mounted(LabelGrid)
