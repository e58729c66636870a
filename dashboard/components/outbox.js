// What every labeling component shares; put before its own module text. Events stay in an IndexedDB journal until the server has
// acknowledged or refused each one; they are sent again until it has.
//
// To the server, one state value "report": {client, journal, number, ...asks, events: [all unacknowledged, oldest first]}.
// From the server, `data`: journal, client, seen (number of the report it answers), acked [event ids], refused {event id: reason}.
// One report is in flight at a time, so slow runs never pile up.

const FLUSH_MS = 2000, FLUSH_EVENTS = 20, RETRY_MS = 2000, RETRY_MAX_MS = 8000, MAX_SENT = 500, REST_MS = 10000, BEAT_MS = 60000

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

// One database for all journals of this address; an entry is {journal, event, passed} under [journal, event id].
const journals = new Promise((done, failed) => {
  const opening = indexedDB.open("fercore", 1)
  opening.onupgradeneeded = () => opening.result.createObjectStore("events")
  opening.onsuccess = () => done(opening.result)
  opening.onerror = opening.onblocked = () => failed(opening.error ?? new Error("blocked"))
})
journals.catch(() => {}) // said by every Outbox that needs it

class Outbox {
  // `journal` names workspace and person: another person's events must never be sent as this one's.
  constructor(journal) {
    Object.assign(this, { journal, client: uuid7(), pending: new Map(), made: 0, saved: 0, refused: 0, problem: "", loaded: false,
      sent: 0, sentIds: new Set(), sentAt: 0, sentAsks: "{}", inFlight: false, patience: RETRY_MS, unsentSince: null, database: null, inherited: new Set() })
    this.load()
  }

  async load() { // answers of an earlier life of the page, also those that a version before this one kept in localStorage
    try {
      this.database = await journals
      const range = IDBKeyRange.bound([this.journal], [this.journal, []])
      const entries = await new Promise((done, failed) => {
        const reading = this.database.transaction("events").objectStore("events").getAll(range)
        reading.onsuccess = () => done(reading.result)
        reading.onerror = () => failed(reading.error)
      })
      // "PLACE-PERSON-FIELDS-LABEL-FINDING/EVENT": exactly three parts after this journal, or another person's name begins like this one
      const own = name => name.startsWith(this.journal) && /^-(expression|age_band-gender)-\w+-\w+\//.test(name.slice(this.journal.length))
      const old = Object.keys(localStorage).filter(own)
      const older = old.map(name => JSON.parse(localStorage.getItem(name)))
      const early = [...this.pending.values()]
      const found = [...older, ...entries].filter(e => !this.pending.has(e.event.event_id))
      for (const { event } of found) this.inherited.add(event.event_id)
      this.made += found.length
      found.sort((a, b) => (a.event.event_id < b.event.event_id ? -1 : 1))
      this.pending = new Map([...found, ...early].map(entry => [entry.event.event_id, entry]))
      const kept = () => old.forEach(name => localStorage.removeItem(name))
      this.write(store => [...older, ...early].forEach(e => store.put(e, [this.journal, e.event.event_id])), kept)
    } catch (error) { this.noJournal(error) }
    this.loaded = true
  }

  write(change, done = null) { // commit() at once: what is written when a tab closes is kept
    if (!this.database) return
    try {
      const transaction = this.database.transaction("events", "readwrite")
      transaction.oncomplete = done
      transaction.onerror = transaction.onabort = () => this.noJournal(transaction.error)
      change(transaction.objectStore("events"))
      transaction.commit()
    } catch (error) { this.noJournal(error) }
  }

  noJournal(error) { this.problem = `This browser keeps no journal (${error?.message}). Keep this page open until all answers are saved.` }

  // Keeps the events of one gesture. `passed` says whether their face is done with (for counting what remains).
  keep(events, passed = true) {
    const entries = events.map(event => ({ event, passed }))
    for (const entry of entries) this.pending.set(entry.event.event_id, entry)
    this.made += events.length
    this.write(store => entries.forEach(e => store.put(e, [this.journal, e.event.event_id])))
  }

  // Takes the answer of the server; returns the refused events as [event, reason].
  receive(component) {
    this.component = component
    const { client, seen, acked, refused } = component.data, said = []
    if (client === this.client && seen >= this.sent) Object.assign(this, { inFlight: false, patience: RETRY_MS })
    const gone = []
    for (const id of acked) if (this.pending.delete(id)) { this.saved += 1; gone.push(id) }
    for (const [id, reason] of Object.entries(refused)) {
      const entry = this.pending.get(id)
      if (!entry) continue
      this.pending.delete(id)
      gone.push(id)
      this.refused += 1
      this.problem = `Not saved: ${reason}`
      said.push([entry.event, reason])
    }
    if (gone.length) this.write(store => gone.forEach(id => store.delete([this.journal, id])))
    return said
  }

  // Call often. Sends when events are due, when `asks` (what is wanted of the server) changed, or, while `alive`, when it has been silent.
  tick(asks, alive = true) {
    if (!this.component || !this.loaded) return
    const now = performance.now(), unsent = [...this.pending.keys()].filter(id => !this.sentIds.has(id)).length, wish = JSON.stringify(asks)
    this.unsentSince = unsent ? this.unsentSince ?? now : null
    const open = Object.values(asks).some(ask => ask !== null), overdue = now - this.sentAt >= this.patience
    const due = wish !== this.sentAsks || unsent >= FLUSH_EVENTS || (unsent && now - this.unsentSince >= FLUSH_MS) ||
      (overdue && (this.pending.size || open)) || (alive && now - this.sentAt >= BEAT_MS)
    if (!due || (this.inFlight && !overdue)) return
    if (this.inFlight) this.patience = Math.min(2 * this.patience, RETRY_MAX_MS)
    const events = [...this.pending.values()].slice(0, MAX_SENT).map(entry => entry.event)
    Object.assign(this, { inFlight: true, sentAt: now, sentIds: new Set(events.map(e => e.event_id)), sentAsks: wish, unsentSince: null })
    this.component.setStateValue("report", { client: this.client, journal: this.journal, number: ++this.sent, ...asks, events })
  }

  // Whether nothing of an earlier life of the page is waiting: only then is what the server hands out up to date.
  get settled() { return this.loaded && ![...this.inherited].some(id => this.pending.has(id)) }
  get late() { const oldest = this.pending.values().next().value?.event.decided_at; return Boolean(oldest) && Date.now() - oldest > 10000 }
}

// The default export of a component made of class `Loop` (constructor(journal), open(parent), close(), receive(component)).
function mounted(Loop) {
  const instances = new WeakMap() // parent element -> loop
  const resting = new Map() // journal and page -> loop that Streamlit unmounted a moment ago, as it does now and then after a lost connection
  return component => {
    const { parentElement, data } = component, name = `${data.journal} ${data.page}`
    let loop = instances.get(parentElement)
    if (loop && loop.name !== name) { loop.close(); loop = null } // another person or campaign: start afresh
    if (!loop) {
      loop = resting.get(name)
      if (loop) loop.outbox.load() // meanwhile another page may have left answers in the journal
      else loop = Object.assign(new Loop(data.journal), { name })
      instances.set(parentElement, loop)
      resting.delete(name)
      loop.open(parentElement)
    }
    loop.receive(component)
    return () => {
      loop.close()
      instances.delete(parentElement)
      resting.set(name, loop)
      setTimeout(() => resting.get(name) === loop && resting.delete(name), REST_MS)
    }
  }
}
