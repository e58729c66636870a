// A wall of faces from one PNG sheet. Text arrives as data and is only ever set as textContent.

const SIDE = 48
const instances = new WeakMap()

export default function (component) {
  const { parentElement } = component
  let wall = instances.get(parentElement)
  if (!wall) instances.set(parentElement, (wall = mount(parentElement)))
  wall.component = component
  draw(wall, component.data)
  return () => {
    URL.revokeObjectURL(wall.url)
    wall.root.remove()
    instances.delete(parentElement)
  }
}

function mount(parent) {
  const root = document.createElement("div")
  root.className = "face-grid"
  root.dataset.testid = "face-grid"
  root.setAttribute("role", "group")
  root.setAttribute("aria-label", "Faces")
  parent.appendChild(root)
  const wall = { root, url: "", sheet: null, shape: "" }
  root.onclick = e => { // Enter on a focused tile arrives here too
    const tile = e.target.closest("button")
    if (!tile) return
    focusOn(wall, tile)
    wall.component.setTriggerValue("open", tile.dataset.sampleId)
  }
  root.onkeydown = e => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.key === "Tab") return
    e.stopPropagation() // Streamlit acts on r and c
    const tiles = [...root.children], at = tiles.indexOf(e.target.closest("button"))
    const columns = tiles.filter(t => t.offsetTop === tiles[0].offsetTop).length
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: tiles.length - 1 - at }[e.key]
    if (step === undefined) return
    e.preventDefault()
    if (tiles[at + step]) focusOn(wall, tiles[at + step])
  }
  return wall
}

function focusOn(wall, tile) { // roving tabindex: one tile of the wall is a tab stop
  for (const other of wall.root.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1
  tile.tabIndex = 0
  tile.focus()
}

function draw(wall, data) {
  if (wall.sheet !== data.sheet) {
    URL.revokeObjectURL(wall.url)
    const bytes = Uint8Array.from(atob(data.sheet), c => c.charCodeAt(0))
    wall.url = bytes.length ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : ""
    wall.root.style.setProperty("--sheet", wall.url ? `url("${wall.url}")` : "none")
    wall.sheet = data.sheet
  }
  const shape = JSON.stringify([data.scale, data.tiles])
  if (shape === wall.shape) return // same tiles: keep the focus where it is
  wall.shape = shape
  const size = SIDE * data.scale, here = wall.root.querySelector('[tabindex="0"]')?.dataset.sampleId
  const focused = wall.root.getRootNode().activeElement?.closest?.(".face-grid") === wall.root
  wall.root.style.setProperty("--size", `${size}px`)
  wall.root.style.setProperty("--sheet-width", `${size * data.columns}px`)
  wall.root.replaceChildren(...data.tiles.map((tile, i) => drawTile(tile, `${-size * (i % data.columns)}px ${-size * Math.floor(i / data.columns)}px`)))
  const stop = [...wall.root.children].find(t => t.dataset.sampleId === here) ?? wall.root.firstElementChild
  if (stop) stop.tabIndex = 0
  if (stop && focused) stop.focus({ preventScroll: true })
}

function drawTile(tile, position) {
  const button = document.createElement("button")
  Object.assign(button, { type: "button", className: "tile", tabIndex: -1, title: [tile.label, tile.second, tile.note].filter(Boolean).join(", ") })
  button.dataset.sampleId = tile.id
  button.dataset.testid = "tile"
  const face = button.appendChild(document.createElement("span"))
  face.className = "face"
  face.style.backgroundPosition = position
  const line = (text, kind, colour) => {
    const span = button.appendChild(document.createElement("span"))
    span.className = kind
    span.textContent = text
    if (colour) span.style.setProperty("--class", colour)
  }
  line(tile.label, "chip", tile.colour)
  if (tile.second) line(tile.second, "chip second", tile.second_colour)
  if (tile.note) line(tile.note, "note")
  return button
}
