// A wall of faces from one PNG sheet. Text arrives as data and is only ever set as textContent.
// Of a long list it holds some pages, turns to those at once, and asks for the pages it lacks: the one wanted first, then its neighbours.

const SIDE = 48, TELL_MS = 120 // a selection made by several quick acts is told once
const KEPT = 9 // pages of a list, those nearest to the one shown
const instances = new WeakMap()

export default function (component) {
  const { parentElement, data } = component
  let wall = instances.get(parentElement)
  if (!wall) instances.set(parentElement, (wall = mount(parentElement, new Set(data.selected))))
  wall.component = component
  if (data.list) receive(wall, data)
  else draw(wall, data)
  return () => {
    clearTimeout(wall.timer)
    URL.revokeObjectURL(wall.url)
    wall.pager?.remove()
    wall.root.remove()
    instances.delete(parentElement)
  }
}

function mount(parent, selected) {
  const root = document.createElement("div")
  root.className = "face-grid"
  root.dataset.testid = "face-grid"
  root.setAttribute("role", "group")
  root.setAttribute("aria-label", "Faces")
  parent.appendChild(root)
  const wall = { root, selected, anchor: null, told: JSON.stringify([...selected]), url: "", sheet: null, shape: "" }
  root.onclick = e => { // Enter on a focused tile of a wall without selection arrives here too, Space in every wall
    const { select } = wall.component.data, tile = e.target.closest(".tile"), head = e.target.closest(".head")
    if (head && select) toggle(wall, [...head.parentElement.querySelectorAll(".tile")])
    if (!tile) return
    focusOn(wall, tile)
    if (!select) open(wall, tile)
    else if (e.shiftKey) reach(wall, tile)
    else toggle(wall, [tile])
  }
  root.ondblclick = e => {
    const tile = e.target.closest(".tile")
    if (tile && wall.component.data.select) open(wall, tile)
  }
  root.addEventListener("focusout", ({ relatedTarget: to }) => { // told later, it would close the dialog that the button pressed next opens
    if (to && !root.contains(to)) tell(wall)
  })
  root.onkeydown = e => {
    if (wall.pager && ["PageUp", "PageDown"].includes(e.key)) {
      e.preventDefault()
      turn(wall, wall.page + (e.key === "PageUp" ? -1 : 1))
    }
    const { select } = wall.component.data, all = (e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "a"
    if (((e.ctrlKey || e.metaKey) && !(all && select)) || e.altKey || e.key === "Tab") return
    e.stopPropagation() // Streamlit acts on r and c
    const tiles = tilesOf(wall), tile = e.target.closest(".tile")
    const next = { ArrowLeft: () => tiles[tiles.indexOf(tile) - 1], ArrowRight: () => tiles[tiles.indexOf(tile) + 1], ArrowUp: () => beyond(tiles, tile, -1),
      ArrowDown: () => beyond(tiles, tile, 1), Home: () => tiles[0], End: () => tiles.at(-1) }[e.key]
    const act = next ? () => move(wall, tile, next(), select && e.shiftKey)
      : !select ? null : all ? () => choose(wall, tiles, true) : { Escape: () => choose(wall, tiles, false), Enter: () => open(wall, tile) }[e.key]
    if (!act) return
    e.preventDefault()
    act()
  }
  return wall
}

const tilesOf = wall => [...wall.root.querySelectorAll(".tile")]
const open = (wall, tile) => wall.component.setTriggerValue("open", tile.dataset.sampleId)

function beyond(tiles, from, sign) { // the tile of the row above (-1) or below (1) that is nearest across; rows of framed groups need not align
  const here = from.getBoundingClientRect(), away = tiles.map(tile => ({ tile, at: tile.getBoundingClientRect() })).filter(t => sign * (t.at.top - here.top) > 1)
  const row = Math.min(...away.map(t => sign * t.at.top))
  return away.filter(t => sign * t.at.top - row < 1).sort((a, b) => Math.abs(a.at.left - here.left) - Math.abs(b.at.left - here.left))[0]?.tile
}

function move(wall, tile, to, range) {
  if (!to) return
  focusOn(wall, to)
  if (range) reach(wall, to, tile)
  else wall.anchor = to.dataset.sampleId
}

// ---- selection ---------------------------------------------------------------------------------------------------------------
function toggle(wall, tiles) {
  wall.anchor = tiles[0].dataset.sampleId
  choose(wall, tiles, !tiles.every(t => wall.selected.has(t.dataset.sampleId)))
}

function reach(wall, tile, from = tile) { // the range from where the last one was selected
  const tiles = tilesOf(wall), anchor = tiles.findIndex(t => t.dataset.sampleId === wall.anchor), begin = anchor < 0 ? tiles.indexOf(from) : anchor
  wall.anchor = tiles[begin].dataset.sampleId
  const [first, last] = [begin, tiles.indexOf(tile)].sort((a, b) => a - b)
  choose(wall, tiles.slice(first, last + 1), true)
}

function choose(wall, tiles, on) {
  for (const { dataset: { sampleId } } of tiles) on ? wall.selected.add(sampleId) : wall.selected.delete(sampleId)
  press(wall)
  clearTimeout(wall.timer)
  wall.timer = setTimeout(() => tell(wall), TELL_MS)
}

function press(wall) {
  if (wall.component.data.select) for (const tile of tilesOf(wall)) tile.setAttribute("aria-pressed", wall.selected.has(tile.dataset.sampleId))
}

function tell(wall) {
  const ids = tilesOf(wall).map(t => t.dataset.sampleId).filter(id => wall.selected.has(id))
  if (JSON.stringify(ids) === wall.told) return
  wall.told = JSON.stringify(ids)
  wall.component.setStateValue("selected", ids)
}

// ---- pages of a list -----------------------------------------------------------------------------------------------------------
function receive(wall, data) {
  wall.pager ??= drawPager(wall)
  if (wall.list !== data.list) {
    Object.assign(wall, { list: data.list, pages: new Map(), asked: "" })
    show(wall, data.page)
  }
  for (const page of data.pages) wall.pages.set(page.number, page)
  for (const far of [...wall.pages.keys()].sort((a, b) => Math.abs(a - wall.page) - Math.abs(b - wall.page)).slice(KEPT)) wall.pages.delete(far)
  paint(wall)
}

function turn(wall, page) {
  show(wall, Math.min(Math.max(Math.round(page) || 1, 1), wall.component.data.last))
  paint(wall)
}

function show(wall, page) { // only here, not when pages arrive: that would overwrite a number being typed
  wall.page = page
  wall.pager.box.value = page
}

function paint(wall) {
  const { data } = wall.component, { page, pages, pager } = wall, shown = pages.get(page)
  if (shown) draw(wall, { ...data, ...shown })
  wall.root.setAttribute("aria-busy", !shown)
  pager.before.disabled = page === 1
  pager.after.disabled = page === data.last
  pager.box.max = data.last
  pager.box.setAttribute("aria-label", `Page, 1 to ${data.last.toLocaleString("en")}`)
  pager.told.textContent = `page ${page.toLocaleString("en")} of ${data.last.toLocaleString("en")}, ${data.what}`
  const lacks = [page, page - 1, page + 1, page + 2].some(n => n >= 1 && n <= data.last && !pages.has(n))
  const asked = JSON.stringify([page, [...pages.keys()]])
  if (asked === wall.asked || !(lacks || page !== data.page)) return
  wall.asked = asked
  wall.component.setStateValue("view", { list: wall.list, page, held: [...pages.keys()] })
}

function drawPager(wall) {
  const pager = document.createElement("div")
  const add = (kind, more) => pager.appendChild(Object.assign(document.createElement(kind), more))
  pager.className = "pager"
  Object.assign(pager, {
    before: add("button", { type: "button", textContent: "\u2039", ariaLabel: "Previous page", onclick: () => turn(wall, wall.page - 1) }),
    box: add("input", { type: "number", min: 1, onchange: e => turn(wall, +e.target.value) }),
    after: add("button", { type: "button", textContent: "\u203a", ariaLabel: "Next page", onclick: () => turn(wall, wall.page + 1) }),
    told: add("span", {}) })
  pager.onkeydown = e => e.stopPropagation() // Streamlit acts on r and c
  wall.root.before(pager)
  return pager
}

// ---- drawing -----------------------------------------------------------------------------------------------------------------
function focusOn(wall, tile) { // roving tabindex: one tile of the wall is a tab stop
  for (const other of wall.root.querySelectorAll('.tile[tabindex="0"]')) other.tabIndex = -1
  tile.tabIndex = 0
  tile.focus()
}

function draw(wall, data) {
  if (wall.sheet !== data.sheet) {
    URL.revokeObjectURL(wall.url)
    const text = atob(data.sheet), bytes = new Uint8Array(text.length)
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
    wall.url = bytes.length ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : ""
    wall.root.style.setProperty("--sheet", wall.url ? `url("${wall.url}")` : "none")
    wall.sheet = data.sheet
  }
  const shape = JSON.stringify([data.scale, data.tiles])
  if (shape === wall.shape) return // same tiles: keep the focus where it is
  wall.shape = shape
  const size = SIDE * data.scale, here = wall.root.querySelector('.tile[tabindex="0"]')?.dataset.sampleId
  const focused = wall.root.getRootNode().activeElement?.closest?.(".face-grid") === wall.root
  wall.root.style.setProperty("--size", `${size}px`)
  wall.root.style.setProperty("--sheet-width", `${size * data.columns}px`)
  wall.root.classList.toggle("grouped", data.tiles.some(t => t.group))
  wall.root.replaceChildren()
  data.tiles.forEach((tile, i) => frameOf(wall, tile.group, data.tiles[i - 1]?.group).appendChild(
    drawTile(tile, `${-size * (i % data.columns)}px ${-size * Math.floor(i / data.columns)}px`)))
  const tiles = tilesOf(wall), stop = tiles.find(t => t.dataset.sampleId === here) ?? tiles[0]
  press(wall)
  if (stop) stop.tabIndex = 0
  if (stop && focused) stop.focus({ preventScroll: true })
}

function frameOf(wall, group, before) { // neighbours of one group share a frame with its name
  if (!group) return wall.root
  if (group !== before) {
    const frame = wall.root.appendChild(document.createElement("div")), head = frame.appendChild(document.createElement("div"))
    Object.assign(head, { className: "head", textContent: group })
    Object.assign(frame, { className: "group" }).appendChild(document.createElement("div")).className = "faces"
  }
  return wall.root.lastElementChild.lastElementChild
}

function drawTile(tile, position) {
  const button = document.createElement("button"), lines = [tile.label, tile.second, tile.note, tile.badge].filter(Boolean)
  Object.assign(button, { type: "button", className: "tile", tabIndex: -1, title: lines.join(", ") })
  button.dataset.sampleId = tile.id
  button.dataset.testid = "tile"
  const face = button.appendChild(document.createElement("span"))
  face.className = "face"
  face.style.backgroundPosition = position
  const line = (text, kind, colour, place = button) => {
    const span = place.appendChild(document.createElement("span"))
    span.className = kind
    span.textContent = text
    if (colour) span.style.setProperty("--class", colour)
  }
  line(tile.label, "chip", tile.colour)
  if (tile.second) line(tile.second, "chip second", tile.second_colour)
  if (tile.note) line(tile.note, "note")
  if (tile.badge) line(tile.badge, "badge", null, face)
  return button
}
