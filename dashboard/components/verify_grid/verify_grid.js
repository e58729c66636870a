// The verify grid; outbox.js stands before this text. A page of faces is marked here and leaves as one gesture when it is committed.
//
// Asks of the server {want, past}: the number of the next batch, and the page of earlier commits that is needed for undo. `data` answers with
// batch {number, lease, faces, pixels} and past {page, gestures, undone, more, faces, pixels} only while they are asked for.
// `done` is one line of acts: marks {of: faces of their page, before, after} and commits {faces, events, spent}; undo walks back along it.

const SIDE = 48, PAGE_FACES = 60, COLUMNS = 10, SPACE = 6, SCALES = [4, 3, 2, 1.5], BELOW = 30
const COMMIT_MS = 400 // a commit sooner than this after the paint was meant for the page before
const PAST_READY = 3, IDLE_MS = 300000, RATE_PAGES = 5
const NAMES = { Semicolon: ";", Quote: "'", Comma: ",", Period: ".", Backspace: "Back", Escape: "Esc" }
const FIXED = { Space: "toggle", Backspace: "undo", KeyZ: "undo", Enter: "commit", NumpadEnter: "commit", KeyC: "comment", KeyH: "help",
  Escape: "escape", ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", Home: "home", End: "end" }
const MOVES = ["left", "right", "up", "down", "home", "end"]
const PLACE = 'body, [data-testid="stApp"], [data-testid="stMain"]' // has focus when nothing has
const HELP = [["\u2190 \u2191 \u2192 \u2193", "Move; Home and End within a row"], ["Shift+arrows", "Select a range (or Shift+click)"],
  ["Ctrl+click", "Add to the selection"], ["Enter", "Commit the page"], ["Z", "Undo (or Backspace): the last change, then the last page"],
  ["Shift+Z", "Redo"], ["C", "Comment on the face"], ["Esc", "Clear the selection, then pause"], ["H or ?", "This list"]]
const TEMPLATE = `
  <div class="claim"><span data-testid="claim"></span><span class="note" data-testid="do"></span><span class="note" data-testid="note"></span>
    <span class="gap"></span><span class="tally" data-testid="tally"></span>
    <button type="button" class="primary" data-act="commit" data-testid="commit"><span></span><kbd>Enter</kbd></button></div>
  <div class="body">
    <div class="stage"><div class="cells" role="grid" aria-multiselectable="true" aria-label="Faces" data-testid="cells"></div>
      <div class="veil" hidden><p data-testid="veil"></p>
        <button type="button" data-act="again" data-testid="again" hidden>Look again</button></div></div>
    <div class="side"><button type="button" data-act="undo" data-testid="undo" aria-label="Undo, key Z">Undo</button>
      <button type="button" data-act="redo" data-testid="redo" aria-label="Redo, key Shift+Z">Redo</button>
      <button type="button" data-act="pick" data-testid="pick" aria-pressed="false">Select</button>
      <button type="button" data-act="comment" data-testid="comment" aria-label="Comment, key C">Comment</button>
      <button type="button" data-act="pause" data-testid="pause" aria-label="Pause, key Esc">Pause</button>
      <button type="button" data-act="help" data-testid="help" aria-label="Keys, key ?">Keys</button>
      <span class="last" role="status" aria-live="polite" data-testid="last"></span><span class="gap"></span>
      <span data-testid="rate"></span><span data-testid="remaining"></span><span class="saved" data-testid="saved"></span></div></div>
  <div class="row palette" role="group" aria-label="Answers"></div>
  <div class="row comment" hidden><input type="text" maxlength="500" data-testid="comment-text">
    <button type="button" data-act="send" data-testid="send">Send</button><button type="button" data-act="unsay">Cancel</button></div>
  <p class="problem" role="alert" data-testid="problem" hidden></p>
  <div class="help" role="group" aria-label="Keys" data-testid="keys" hidden><dl></dl><button type="button" data-act="help">Close</button></div>`

class VerifyGrid {
  constructor(journal) {
    Object.assign(this, { outbox: new Outbox(journal), page: [], queue: [], marks: new Map(), gone: new Set(), done: [], undone: [], acted: false,
      want: 1, past: 1, number: 0, exhausted: false, cursor: 0, anchor: 0, selected: new Set(), picking: false, paused: false, helping: false,
      commenting: false, said: "", shape: "", laid: "", painted: null, spent: 0, shownAt: 0, shownTick: 0, layout: null })
    this.root = document.createElement("div")
    Object.assign(this.root, { className: "verify-grid", tabIndex: -1, innerHTML: TEMPLATE })
    this.root.dataset.testid = "verify-grid"
    this.box = this.root.querySelector(".cells")
    this.root.onkeydown = e => this.onKey(e)
    this.root.onmousedown = e => { if (!e.target.closest("input")) { e.preventDefault(); this.focus() } } // a click leaves the keys with the grid
    this.root.onclick = e => this.onClick(e)
    navigator.keyboard?.getLayoutMap?.().then(map => { this.layout = map; this.hints() }, () => {})
  }

  open(parent) {
    parent.appendChild(this.root)
    const signal = (this.listeners = new AbortController()).signal
    addEventListener("keydown", e => this.onPageKey(e), { capture: true, signal })
    addEventListener("resize", () => this.draw(), { signal })
    this.watch = new ResizeObserver(([{ contentRect: { width } }]) => { // the sidebar opens and closes without a resize of the window
      if (width !== this.width) requestAnimationFrame(() => this.draw())
      this.width = width
    })
    this.watch.observe(this.root)
    this.timer = setInterval(() => this.tick(), 100)
    this.focus()
  }

  close() { clearInterval(this.timer); this.listeners.abort(); this.watch.disconnect(); this.root.remove() }
  find(id) { return this.root.querySelector(`[data-testid="${id}"]`) }
  get cells() { return [...this.box.querySelectorAll('[role="gridcell"]')] }
  get focused() { return this.root.getRootNode().activeElement }
  focus() { (this.cells[this.cursor] ?? this.root).focus({ preventScroll: true }) }

  // ---- server ------------------------------------------------------------------------------------------------------------
  receive(component) {
    const data = (this.data = component.data), mine = data.client === this.outbox.client
    this.refuse(new Set(this.outbox.receive(component).map(([event]) => event.event_id)))
    const shape = JSON.stringify([data.choices, data.said])
    if (shape !== this.shape) { this.shape = shape; this.build() }
    this.lose(data.lost)
    if (mine && data.batch && data.batch.number === this.want) this.take(data.batch)
    if (mine && data.past && data.past.page === this.past) this.takePast(data.past)
    this.askForMore()
    this.draw()
    this.tick()
  }

  unpacked({ faces, pixels }, lease) {
    const all = unpack(pixels)
    return faces.map((f, i) => ({ ...f, lease, pixels: all.subarray(i * SIDE * SIDE, (i + 1) * SIDE * SIDE) }))
  }

  take(batch) {
    const held = new Map([...this.page, ...this.queue].map(f => [f.image_id, f]))
    const answered = new Set(this.done.flatMap(act => act.events ?? []).map(e => e.image_id))
    for (const face of this.unpacked(batch, batch.lease || null)) {
      this.gone.delete(face.image_id)
      if (held.has(face.image_id)) held.get(face.image_id).lease = face.lease
      if (held.has(face.image_id) || answered.has(face.image_id)) continue
      this.queue.push(face)
      const given = face.answers[this.data.field]
      if (given && given !== this.data.claim) this.marks.set(face.image_id, given)
    }
    Object.assign(this, { number: batch.number, want: null, exhausted: !batch.faces.length })
    if (this.page.length) return // a page grows no faces under the hands of the person
    this.turn(this.queue.splice(0, PAGE_FACES))
    this.readDraft()
  }

  // Marks of a page that is not committed survive a reload of the tab.
  readDraft() {
    const here = new Set(this.page.map(f => f.image_id)), draft = JSON.parse(this.session(s => s.getItem(`draft ${this.name}`)) ?? "[]")
    const { undone, acted } = this // what could be redone before the reload still can
    this.mark(draft.filter(([id]) => here.has(id) && !this.marks.has(id)))
    Object.assign(this, { undone, acted })
  }

  keepDraft() {
    const draft = JSON.stringify(this.page.map(f => [f.image_id, this.marks.get(f.image_id)]).filter(([, value]) => value !== undefined))
    if (this.page.length && draft !== this.draft) this.session(s => s.setItem(`draft ${this.name}`, draft))
    this.draft = draft
  }

  session(use) { try { return use(sessionStorage) } catch { return null } } // storage is off: marks then end with the page

  takePast(past) {
    const faces = new Map(this.unpacked(past, null).map(f => [f.image_id, f]))
    const known = new Set([...this.done, ...this.undone].flatMap(act => act.events ?? []).map(e => e.event_id))
    const commits = gestures => {
      const units = new Map()
      for (const { image_id, events } of gestures) for (const e of events) {
        if (known.has(e.event_id)) continue
        const name = e.gesture ?? e.event_id
        if (!units.has(name)) units.set(name, { faces: [], events: [], spent: 0 })
        units.get(name).events.push({ ...e, image_id })
      }
      for (const unit of units.values()) {
        unit.events.sort((a, b) => (a.event_id < b.event_id ? -1 : 1)) // in the order of the page, also where undo went through it backwards
        unit.faces = [...new Set(unit.events.map(e => e.image_id))].map(id => faces.get(id)).filter(Boolean)
      }
      return [...units.values()].filter(unit => unit.faces.length)
    }
    this.done.unshift(...commits(past.gestures))
    if (past.page === 1 && !this.acted) this.undone = commits(past.undone)
    this.older = past.more ? past.page + 1 : null
    this.past = null
  }

  askForMore() {
    if (this.want === null && !this.exhausted && this.queue.length <= PAGE_FACES) this.want = this.number + 1
    if (this.past === null && this.older && this.done.filter(act => act.events).length < PAST_READY) this.past = this.older
  }

  // What was refused is no longer there to be undone; marks of a page that never was go with it.
  refuse(ids) {
    if (!ids.size) return
    const acts = [...this.done, ...this.undone]
    for (const act of acts) if (act.events) act.events = act.events.filter(e => !ids.has(e.event_id))
    const voided = new Set(acts.filter(act => act.events?.length === 0).map(act => act.faces))
    const stays = act => act.events ? act.events.length : act.of === this.page || !voided.has(act.of)
    Object.assign(this, { done: this.done.filter(stays), undone: this.undone.filter(stays) })
  }

  lose(ids) {
    for (const id of ids) this.gone.add(id)
    if (ids.length) this.queue = this.queue.filter(f => !this.gone.has(f.image_id))
  }

  tick() {
    const now = performance.now(), ready = this.outbox.settled
    const alive = !document.hidden && !(this.paused && now - this.pausedAt > IDLE_MS)
    this.outbox.tick({ want: ready ? this.want : null, past: ready ? this.past : null }, alive)
    if (now - (this.countedAt ?? 0) >= 1000) this.count(now)
  }

  // ---- keys and mouse ----------------------------------------------------------------------------------------------------
  onPageKey(e) { // focus fell back to the page (a click on its background): the keys still belong to the grid
    if (!e.target.matches?.(PLACE) || !this.root.offsetParent || document.querySelector('[role="dialog"]')) return
    this.focus()
    this.onKey(e)
  }

  onKey(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return
    e.stopPropagation() // Streamlit acts on r and c
    if (e.target.matches?.("input")) return this.onWriting(e)
    if (["Space", "Enter"].includes(e.code) && e.target.closest?.("button")) return // a button reached with Tab
    const [name, value] = e.key === "?" ? ["help"] : e.code === "KeyZ" && e.shiftKey ? ["redo"] : this.keys.get(e.code) ?? [FIXED[e.code]]
    if (!name) return
    e.preventDefault()
    if (e.repeat && !MOVES.includes(name)) return
    this.act(name, { value, extend: e.shiftKey })
  }

  onWriting(e) {
    if (e.isComposing || e.repeat || !["Enter", "NumpadEnter", "Escape"].includes(e.code)) return
    e.preventDefault()
    this.act(e.code === "Escape" ? "unsay" : "send", {})
  }

  onClick(e) {
    const button = e.target.closest("button"), cell = e.target.closest('[role="gridcell"]')
    if (button) return this.act(button.dataset.act, { value: button.dataset.value })
    if (!cell || this.paused || this.helping || this.commenting) return // a comment is on the face it was opened for
    const i = Number(cell.dataset.i), toggled = this.data.claim !== null && !this.picking && !e.ctrlKey && !e.metaKey
    if (e.shiftKey) this.range(i)
    else {
      if (toggled) this.selected.clear()
      else this.selected.delete(i) || this.selected.add(i)
      this.cursor = this.anchor = i
      if (toggled) this.toggle()
    }
    this.draw()
  }

  act(name, { value, extend }) {
    if (name === "help") this.helping = !this.helping
    else if (name === "escape" && this.helping) this.helping = false
    else if (name === "escape" && this.selected.size && !this.paused) this.selected.clear()
    else if (name === "escape" || name === "pause") this.pause()
    else if (name === "again") Object.assign(this, { want: this.number + 1, exhausted: false })
    else if (this.helping || this.paused) return
    else if (name === "undo") this.undo()
    else if (name === "redo") this.redo()
    else if (name === "pick") this.picking = !this.picking
    else if (name === "unsay") this.unsay()
    else if (!this.page.length) return
    else if (MOVES.includes(name)) this.move(name, extend)
    else if (name === "answer") this.answer(value)
    else if (name === "toggle") this.toggle()
    else if (name === "commit") this.commit()
    else if (name === "comment") this.commenting ? this.unsay() : (this.commenting = true)
    else if (name === "send") this.send()
    this.askForMore()
    this.draw()
    if (name === "comment" && this.commenting) this.find("comment-text").focus()
    if (["unsay", "send", "comment", "help", "pause"].includes(name) && !this.commenting) this.focus()
  }

  move(name, extend) {
    const row = this.cursor - this.cursor % this.columns, end = this.page.length - 1
    const to = { left: this.cursor - 1, right: this.cursor + 1, up: this.cursor - this.columns, down: this.cursor + this.columns, home: row,
      end: Math.min(row + this.columns - 1, end) }[name]
    if (to < 0 || to > end) return
    if (extend) return this.range(to)
    this.selected.clear()
    this.cursor = this.anchor = to
  }

  range(to) {
    this.cursor = to
    const [from, end] = [this.anchor, to].sort((a, b) => a - b)
    this.selected = new Set(Array.from({ length: end - from + 1 }, (_, i) => from + i))
  }

  // ---- acts --------------------------------------------------------------------------------------------------------------
  get targets() { return this.selected.size ? [...this.selected].sort((a, b) => a - b) : [this.cursor] }
  facesOf(targets) { return targets.map(i => this.page[i]).filter(f => !this.gone.has(f.image_id)) }

  answer(value) {
    const targets = this.targets
    this.change(this.facesOf(targets), value === this.data.claim ? undefined : value) // the class of the claim is no exception
    if (this.data.claim === null) this.pass(targets)
  }

  toggle() {
    const targets = this.targets, faces = this.facesOf(targets), open = faces.filter(f => !this.marks.has(f.image_id))
    if (this.data.claim !== null && open.length) return this.change(open, this.data.exception)
    this.change(faces, undefined)
    if (this.data.claim === null) this.pass(targets)
  }

  pass(targets) {
    this.selected.clear()
    this.cursor = this.anchor = Math.min(targets.at(-1) + 1, this.page.length - 1)
  }

  change(faces, value) {
    const changed = faces.filter(f => this.marks.get(f.image_id) !== value).map(f => [f.image_id, value])
    this.mark(changed)
    if (changed.length) this.say(`${this.many(changed.length)}: ${value === undefined ? this.unmarked : this.label(value)}`)
  }

  mark(after) { // one change, undone as one
    if (!after.length) return
    this.done.push({ of: this.page, before: after.map(([id]) => [id, this.marks.get(id)]), after })
    this.apply(after)
    Object.assign(this, { undone: [], acted: true })
  }

  apply(marks) { for (const [id, value] of marks) value === undefined ? this.marks.delete(id) : this.marks.set(id, value) }

  event(op, image_id, field, value, gesture, lease, lead_ms, mode, target = null) {
    return { event_id: uuid7(), op, image_id, field, value, target, gesture, lead_ms, shown_at: this.shownAt, decided_at: Date.now(), mode, lease }
  }

  get time() { return this.spent + performance.now() - this.shownTick }
  get mode() { return this.data.claim === null ? "grid_tag" : "grid_exception" }

  commit() {
    const { claim, field } = this.data, left = this.page.filter(f => !this.gone.has(f.image_id))
    const faces = left.filter(f => claim !== null || this.marks.has(f.image_id))
    if (performance.now() - this.shownTick < COMMIT_MS) return this.shake()
    if (!faces.length && left.length) { this.say("No face has an answer yet"); return this.shake() }
    const gesture = uuid7(), spent = this.time, lead = Math.round(spent / faces.length)
    const events = faces.map(({ image_id, lease }) => this.marks.has(image_id)
      ? this.event("set", image_id, field, this.marks.get(image_id), gesture, lease, lead, this.mode)
      : this.event("set", image_id, field, claim, gesture, lease, lead, "grid_bulk"))
    const act = { faces: this.page, events, spent }
    if (faces.length) {
      this.outbox.keep(events)
      this.done.push(act)
      Object.assign(this, { undone: [], acted: true })
    }
    const exceptions = events.filter(e => e.mode === "grid_exception").length
    this.say(`${this.many(faces.length)} committed${claim === null ? "" : `, ${this.exceptions(exceptions)}`}`)
    this.goOn(act)
  }

  goOn(commit) { // the page after a commit: first what it left open
    const answered = new Set(commit.events.map(e => e.image_id))
    const waiting = [...this.page, ...this.queue].filter(f => !answered.has(f.image_id) && !this.gone.has(f.image_id))
    this.queue = waiting.splice(PAGE_FACES)
    this.turn(waiting)
  }

  turn(page) {
    this.selected.clear()
    Object.assign(this, { page, cursor: 0, anchor: 0 })
    this.unsay()
    this.stamp()
  }

  stamp() {
    Object.assign(this, { spent: 0, shownAt: Date.now(), shownTick: performance.now() })
    this.root.dataset.shown = Math.round(this.shownTick)
  }

  undo() {
    const act = this.done.pop()
    if (!act) { this.say(this.past === null ? "Nothing left to undo" : "Loading earlier answers"); return this.shake() }
    if (act.events) {
      this.switch("undo", act)
      const back = new Set(act.faces.map(f => f.image_id))
      this.queue = [...this.page, ...this.queue].filter(f => !back.has(f.image_id))
      for (const e of act.events) this.apply([[e.image_id, e.value === this.data.claim ? undefined : e.value]])
      this.turn(act.faces)
      this.say(`Undone: a page of ${this.many(act.events.length)}`)
    } else {
      this.apply(act.before)
      this.point(act.before)
      this.say(`Undone: ${this.many(act.before.length)}`)
    }
    this.undone.push(act)
    this.acted = true
  }

  redo() {
    const act = this.undone.pop()
    if (!act) { this.say("Nothing to redo"); return this.shake() }
    if (act.events) {
      this.switch("redo", act)
      this.goOn(act)
    } else {
      this.apply(act.after)
      this.point(act.after)
    }
    this.done.push(act)
    this.acted = true
    this.say(`Redone: ${this.many((act.events ?? act.after).length)}`)
  }

  switch(op, act) {
    const gesture = uuid7(), lead = Math.round(this.time / act.events.length), order = op === "undo" ? act.events.toReversed() : act.events
    const events = order.map(e => this.event(op, e.image_id, e.field, null, gesture, e.lease ?? null, lead, e.mode ?? this.mode, e.event_id))
    this.outbox.keep(events, op === "redo")
  }

  point(marks) {
    const i = this.page.findIndex(f => f.image_id === marks[0][0])
    if (i >= 0) this.cursor = this.anchor = i
    this.selected.clear()
  }

  send() {
    const input = this.find("comment-text"), text = input.value.trim(), face = this.page[this.cursor]
    if (text) this.outbox.keep([this.event("comment", face.image_id, null, text, uuid7(), face.lease, Math.round(this.time), this.mode)], false)
    if (text) this.say(`Comment on face ${this.cursor + 1}`)
    this.unsay()
  }

  unsay() {
    this.find("comment-text").value = ""
    this.commenting = false
  }

  pause() {
    this.paused = !this.paused
    if (this.paused) { this.spent = this.time; this.pausedAt = performance.now(); return }
    const { spent } = this
    this.stamp()
    this.spent = spent
  }

  shake() {
    this.root.classList.remove("shake")
    void this.box.offsetWidth // restarts the animation
    this.root.classList.add("shake")
  }

  say(text) { this.said = text }
  many(n) { return `${n} face${n === 1 ? "" : "s"}` }
  exceptions(n) { return `${n} exception${n === 1 ? "" : "s"}` }
  label(value) { return this.data.choices.find(c => c.value === value)?.label ?? value }
  get unmarked() { return this.data.claim === null ? "no answer" : this.label(this.data.claim) }

  // ---- drawing -----------------------------------------------------------------------------------------------------------
  element(tag, text = "", attributes = {}) {
    const made = Object.assign(document.createElement(tag), { textContent: text })
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
    return made
  }

  build() {
    const { choices, said: [begin, word], claim } = this.data
    this.keys = new Map(choices.flatMap(c => c.keys.map(code => [code, ["answer", c.value]])))
    this.root.querySelector(".claim").style.setProperty("--class", choices.find(c => c.value === claim)?.colour ?? "")
    this.find("claim").replaceChildren(begin, this.element("strong", word))
    this.find("do").textContent = claim === null ? "Answer each face" : "Mark the exceptions"
    this.find("pick").hidden = claim === null // there a click selects anyway
    this.root.querySelector(".palette").replaceChildren(...choices.map(c => {
      const button = this.element("button", "", { type: "button", title: c.label, "data-testid": `answer-${c.value}` })
      Object.assign(button.dataset, { act: "answer", value: c.value })
      if (c.colour) button.style.setProperty("--class", c.colour)
      button.append(this.element("span", c.label, { class: "name" }))
      return button
    }))
    this.hints()
  }

  hints() { // shows what a physical key is called on this keyboard, where the browser tells
    if (!this.data) return
    const one = code => this.layout?.get(code)?.toUpperCase() ?? NAMES[code] ?? code.replace(/^(Key|Digit)/, "")
    const rows = this.data.choices.map(c => [c.keys.map(one), c])
    for (const [keys, c] of rows) {
      const button = this.find(`answer-${c.value}`)
      button.querySelector("kbd")?.remove()
      if (keys.length) button.append(this.element("kbd", keys[0])) // nine answers with two keys each leave no room for their names
      button.setAttribute("aria-label", [c.label, keys.join(" or ")].filter(Boolean).join(", key "))
    }
    const space = this.data.claim === null ? "Leave without an answer" : `Exception (${this.label(this.data.exception)}), or take the mark back`
    const all = [...rows.map(([keys, c]) => [keys.join(" or "), c.label]), ["Space", space], ...HELP]
    this.root.querySelector(".help dl").replaceChildren(...all.map(([key, what]) => {
      const row = this.element("div")
      row.append(this.element("dt", key), this.element("dd", what))
      return row
    }))
  }

  lay() { // the largest faces of which ten fit across and six fit down, counted in whole screen pixels where that is possible
    const width = this.box.clientWidth, rows = PAGE_FACES / COLUMNS
    if (!width) return // not on the page yet
    const above = this.root.getBoundingClientRect().top + (document.querySelector('[data-testid="stMain"]')?.scrollTop ?? 0)
    const height = innerHeight - BELOW - above - (this.root.offsetHeight - this.box.offsetHeight)
    const fits = s => COLUMNS * (s * SIDE + SPACE) - SPACE <= width && rows * (s * SIDE + SPACE) - SPACE <= height
    const scale = SCALES.find(fits) ?? SCALES.at(-1), tile = scale * SIDE
    this.columns = Math.max(1, Math.min(COLUMNS, Math.floor((width + SPACE) / (tile + SPACE))))
    this.box.style.setProperty("--tile", `${tile}px`)
    this.box.style.setProperty("--space", `${SPACE}px`)
    this.box.style.setProperty("--columns", this.columns)
    // Where a pixel of the face takes one and a half of the screen, sharp edges would distort it.
    this.root.classList.toggle("sharp", Number.isInteger(scale * devicePixelRatio))
    const laid = `${this.page.length} ${this.columns}`
    if (laid === this.laid) return
    this.laid = laid
    const cells = this.page.map((_, i) => {
      const cell = this.element("div", "", { class: "cell", role: "gridcell", tabindex: -1, "data-i": i })
      cell.append(this.element("canvas", "", { width: SIDE, height: SIDE }), this.element("span", "", { class: "chip" }))
      return cell
    })
    this.box.replaceChildren(...Array.from({ length: Math.ceil(cells.length / this.columns) }, (_, r) => {
      const row = this.element("div", "", { role: "row" })
      row.append(...cells.slice(r * this.columns, (r + 1) * this.columns))
      return row
    }))
    this.painted = null
  }

  paint(canvas, pixels) {
    const context = canvas.getContext("2d"), image = context.createImageData(SIDE, SIDE), out = image.data
    for (let i = 0; i < SIDE * SIDE; i++) {
      out[4 * i] = out[4 * i + 1] = out[4 * i + 2] = pixels[i]
      out[4 * i + 3] = 255
    }
    context.putImageData(image, 0, 0)
  }

  draw() {
    if (!this.data) return
    const had = this.focused === this.root || this.box.contains(this.focused)
    this.lay()
    const { claim } = this.data, cells = this.cells, fresh = this.painted !== this.page
    this.painted = this.page
    this.page.forEach((face, i) => {
      const cell = cells[i], value = this.marks.get(face.image_id), gone = this.gone.has(face.image_id), chip = cell.querySelector(".chip")
      if (fresh) this.paint(cell.querySelector("canvas"), face.pixels)
      cell.dataset.imageId = face.image_id
      value === undefined || gone ? delete cell.dataset.value : (cell.dataset.value = value)
      cell.style.setProperty("--class", this.data.choices.find(c => c.value === value)?.colour || "#ececec")
      const text = gone ? "Taken" : value === undefined ? "" : this.label(value)
      Object.assign(chip, { hidden: !text, textContent: text })
      const name = value === undefined ? this.unmarked : `${claim === null ? "" : "exception: "}${this.label(value)}`
      cell.setAttribute("aria-label", `face ${i + 1}, ${gone ? "taken by somebody else" : name.toLowerCase()}`)
      cell.setAttribute("aria-selected", this.selected.has(i))
      cell.setAttribute("aria-disabled", gone)
      cell.tabIndex = i === this.cursor ? 0 : -1
      cell.classList.toggle("at", i === this.cursor)
    })
    this.keepDraft()
    this.veil()
    this.texts()
    if (had && !this.paused) { this.focus(); cells[this.cursor]?.scrollIntoView({ block: "nearest" }) }
    this.count(performance.now())
  }

  veil() {
    const waiting = !this.outbox.settled ? "Sending the answers that this browser kept" : this.exhausted ? this.data.empty : "Loading faces"
    const text = this.paused ? "Paused. Press Esc to go on." : this.page.length ? "" : waiting
    this.root.classList.toggle("veiled", Boolean(text))
    this.root.querySelector(".veil").hidden = !text
    this.find("veil").textContent = text
    this.find("again").hidden = !(this.exhausted && !this.paused && !this.page.length)
    this.find("keys").hidden = !this.helping
    this.root.querySelector(".comment").hidden = !this.commenting
    this.root.querySelector(".palette").hidden = this.commenting // in its place, so that the faces stay where they are
    this.find("comment-text").setAttribute("aria-label", `Comment on face ${this.cursor + 1}`)
    this.find("comment-text").placeholder = `Comment on face ${this.cursor + 1}. Enter sends it, Esc closes.`
  }

  texts() {
    const here = this.page.filter(f => !this.gone.has(f.image_id)), marked = here.filter(f => this.marks.has(f.image_id)).length
    const { claim, note } = this.data, n = claim === null ? marked : here.length
    this.find("note").textContent = note
    this.find("tally").textContent = !this.page.length ? "" : claim === null ? `${marked} of ${here.length} answered`
      : `${this.exceptions(marked)}${this.selected.size ? `, ${this.selected.size} selected` : ""}`
    this.find("commit").firstElementChild.textContent = `Commit ${this.many(n)}`
    this.find("commit").setAttribute("aria-disabled", !n && Boolean(here.length || !this.page.length))
    this.find("undo").setAttribute("aria-disabled", !this.done.length)
    this.find("redo").setAttribute("aria-disabled", !this.undone.length)
    this.find("pick").setAttribute("aria-pressed", this.picking)
    this.find("pause").setAttribute("aria-pressed", this.paused)
    if (this.find("last").textContent !== this.said) this.find("last").textContent = this.said
    Object.assign(this.find("problem"), { hidden: !this.outbox.problem, textContent: this.outbox.problem })
    Object.assign(this.root.dataset, { paused: this.paused, batch: this.number, undoable: this.done.length, past: this.past ?? "" })
  }

  count(now) {
    const whole = n => n.toLocaleString("en-US"), { pending, made, saved, refused, late } = this.outbox
    this.countedAt = now
    const recent = this.done.filter(act => act.spent).slice(-RATE_PAGES), sum = of => recent.reduce((n, act) => n + of(act), 0)
    const rate = Math.round((sum(act => act.events.length) * 60000) / sum(act => act.spent))
    const extra = `${refused ? `, ${whole(refused)} refused` : ""}${late ? ", waiting for the server" : ""}`
    const local = [...new Map([...pending.values()].map(p => [p.event.image_id, p.passed])).values()].filter(Boolean).length
    this.find("rate").textContent = recent.length ? `${whole(rate)} faces a minute` : ""
    this.find("remaining").textContent = `${whole(Math.max(this.data.total - this.data.done - local, 0))} remaining`
    this.find("saved").title = late ? "Your answers are kept in this browser. If this lasts, reload the page: they are sent again." : ""
    this.find("saved").textContent = `Saved ${whole(saved)} of ${whole(made)}${extra}`
    this.root.classList.toggle("late", late)
    Object.assign(this.root.dataset, { made, saved, refused })
  }
}

export default mounted(VerifyGrid)
