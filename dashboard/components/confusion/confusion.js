export default function ({ data, parentElement, setTriggerValue }) {
  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag)
    element.textContent = text
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
    return element
  }
  const label = cls => {
    const dot = make("span", "", { class: "dot" })
    dot.style.background = cls.colour
    const name = make("span", cls.name)
    const wrap = make("span", "", { class: "label" })
    wrap.append(dot, name)
    return wrap
  }

  const table = make("table", "")
  const head = make("tr", "")
  head.append(make("th", `${data.axes[0]} ↓  ${data.axes[1]} →`, { class: "corner" }))
  for (const cls of data.classes) {
    const th = make("th", "", { scope: "col" })
    th.append(label(cls))
    head.append(th)
  }
  head.append(make("th", "n", { scope: "col", class: "total" }))
  table.append(head)

  data.cells.forEach((row, i) => {
    const tr = make("tr", "")
    const th = make("th", "", { scope: "row" })
    th.append(label(data.classes[i]))
    tr.append(th)
    row.forEach((cell, j) => {
      const [t, p] = [data.classes[i], data.classes[j]]
      const button = make("button", cell.text, {
        type: "button",
        "data-testid": `cell-${t.id}-${p.id}`,
        "aria-label": `${data.axes[0]} ${t.name}, ${data.axes[1]} ${p.name}: ${cell.n} faces`,
        title: `${data.axes[0]} ${t.name}, ${data.axes[1]} ${p.name}: n = ${cell.n}` + (cell.share === null ? "" : ` (${(cell.share * 100).toFixed(1)} % of ${t.name})`),
      })
      button.className = i === j ? "right" : "wrong"
      button.style.setProperty("--share", Math.sqrt(cell.share ?? 0).toFixed(3))
      button.disabled = cell.n === 0
      button.onclick = () => setTriggerValue("opened", { true: t.id, predicted: p.id })
      const td = make("td", "")
      td.append(button)
      tr.append(td)
    })
    tr.append(make("td", data.totals[i], { class: "total" }))
    table.append(tr)
  })
  const old = parentElement.querySelector("table")
  if (old) old.replaceWith(table)
  else parentElement.append(table)
}
