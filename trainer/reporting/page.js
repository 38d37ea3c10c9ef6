(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const WORDS = { many: "clips", one: "clip" };
  const data = JSON.parse(document.getElementById("data").textContent);
  const draw = (name, attributes, parent) => {
    const made = document.createElementNS(SVG, name);
    for (const key of Object.keys(attributes)) made.setAttribute(key, attributes[key]);
    if (parent) parent.append(made);
    return made;
  };

  function matrix(found, plane) {
    const { names, clips, cells, orders, size } = found, all = names.length;
    const svg = plane.querySelector("svg.cells"), trues = plane.querySelector(".true"), calls = plane.querySelector(".called");
    const readout = document.getElementById("readout"), order = document.getElementById("order"), zoom = document.getElementById("zoom");
    const count = new Map(), shades = new Map();
    for (let at = 0; at < cells.length; at += 4) {
      count.set(cells[at + 1] * all + cells[at], cells[at + 2]);
      shades.set(cells[at + 1] * all + cells[at], cells[at + 3]);
    }
    const counted = (row, column) => count.get(row * all + column) || 0;
    let shown = [], aimed = null, marks = null;

    function around(label) {  // the class and those it is most often mixed up with
      const mixed = names.map((_, other) => [other, other === label ? 0 : counted(label, other) + counted(other, label)]);
      const near = mixed.filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]).slice(0, 11).map(([other]) => other);
      return [label, ...near];
    }

    function paint() {
      const classes = zoom.value === "" ? orders[order.value] : around(Number(zoom.value));
      order.disabled = zoom.value !== "";
      shown = classes;
      const width = zoom.value === "" ? size : Math.max(size, Math.min(46, Math.floor(620 / classes.length)));
      plane.style.setProperty("--classes", classes.length);
      plane.style.setProperty("--size", width + "px");
      svg.setAttribute("viewBox", `0 0 ${classes.length} ${classes.length}`);
      svg.replaceChildren();
      draw("rect", { class: "ground", width: classes.length, height: classes.length }, svg);
      const paths = new Map(), texts = [];
      classes.forEach((row, y) => classes.forEach((column, x) => {
        const n = counted(row, column);
        if (!n) return;
        const shade = shades.get(row * all + column), side = row === column ? "r" : "w", kind = `${side} s${shade}`;
        paths.set(kind, (paths.get(kind) || "") + `M${x}.04 ${y}.04h.92v.92h-.92z`);
        if (width >= 24) texts.push([x + 0.5, y + 0.5, n, `${side}-n${shade}`]);
      }));
      for (const [kind, d] of paths) draw("path", { class: kind, d }, svg);
      for (const [x, y, n, kind] of texts) draw("text", { x, y, class: kind }, svg).textContent = n.toLocaleString("en");
      marks = { row: draw("rect", { class: "beam", height: 1, width: 0 }, svg), column: draw("rect", { class: "beam", width: 1, height: 0 }, svg),
                cell: draw("rect", { class: "aim", width: 0, height: 1 }, svg) };
      for (const [list, title] of [[trues, true], [calls, false]]) {
        list.replaceChildren(...classes.map((label) => {
          const made = document.createElement("div"), name = document.createElement("bdi");
          name.textContent = names[label];
          made.title = names[label];
          made.append(name);
          return made;
        }));
      }
      aimed = null;
      plane.classList.remove("pointed");
    }

    function aim(x, y) {
      const last = shown.length - 1;
      x = Math.min(Math.max(x, 0), last); y = Math.min(Math.max(y, 0), last);
      for (const [list, at] of [[trues, y], [calls, x]]) {
        if (aimed) list.children[list === trues ? aimed.y : aimed.x].classList.remove("hot");
        list.children[at].classList.add("hot");
      }
      aimed = { x, y };
      plane.classList.add("pointed");
      for (const [name, value] of [["y", y], ["width", shown.length]]) marks.row.setAttribute(name, value);
      for (const [name, value] of [["x", x], ["height", shown.length]]) marks.column.setAttribute(name, value);
      for (const [name, value] of [["x", x], ["y", y], ["width", 1]]) marks.cell.setAttribute(name, value);
      say(shown[y], shown[x]);
    }

    function say(row, column) {
      const n = counted(row, column), of = clips[row], share = of ? (100 * n / of).toFixed(1) + "%" : "none";
      const bold = (text) => { const made = document.createElement("strong"), name = document.createElement("bdi"); name.textContent = text; made.append(name); return made; };
      const words = ` ${n.toLocaleString("en")} of ${of.toLocaleString("en")} ${of === 1 ? WORDS.one : WORDS.many} (${share})`;
      readout.replaceChildren("True: ", bold(names[row]), row === column ? ". Called right:" : ". Called: ", ...(row === column ? [] : [bold(names[column]), ":"]), words);
    }

    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    function point(event) {
      const box = svg.getBoundingClientRect();
      aim(Math.floor((event.clientX - box.left) / box.width * shown.length), Math.floor((event.clientY - box.top) / box.height * shown.length));
    }
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const from = aimed || { x: -step[0], y: -step[1] };
      aim(from.x + step[0], from.y + step[1]);
      marks.cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    order.addEventListener("change", paint);
    zoom.addEventListener("change", paint);
    svg.setAttribute("tabindex", "0");
    document.getElementById("matrix-tools").hidden = false;
    readout.hidden = false;
    paint();
  }

  function skeletons(found) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)"), players = [];
    const line = (frame, start, bones) => bones.map(([from, to]) => {
      const a = start + 2 * from, b = start + 2 * to;
      return frame[a] < 0 || frame[b] < 0 ? "" : `M${frame[a]} ${frame[a + 1]}L${frame[b]} ${frame[b + 1]}`;
    }).join("");

    function show(player, number) {
      const frame = player.clip.frames[number];
      player.groups.forEach((group, body) => {
        const start = 2 * body * player.clip.joints;
        [["m", "middle"], ["l", "left"], ["o", "right"]].forEach(([kind, side]) =>
          group.querySelector("." + kind).setAttribute("d", line(frame, start, found.bones[side])));
        const circle = group.querySelector("circle");
        if (!circle) return;
        const at = start + 2 * found.bones.heads[0];
        circle.setAttribute("visibility", frame[at] < 0 ? "hidden" : "visible");
        circle.setAttribute("cx", frame[at]);
        circle.setAttribute("cy", frame[at + 1]);
      });
      player.number = number;
      player.slider.value = number;
    }

    function play(player, on) {
      player.playing = on;
      player.button.setAttribute("aria-pressed", on);
      player.button.setAttribute("aria-label", on ? "Pause" : "Play");
      player.button.querySelector("path").setAttribute("d", on ? "M1 0h3v10h-3zM6 0h3v10h-3z" : "M1 0L10 5 1 10z");
      if (on) { player.from = performance.now() - player.number * player.step; request(); }
    }

    let waiting = false;
    const request = () => { if (!waiting) { waiting = true; requestAnimationFrame(tick); } };
    function tick(now) {
      waiting = false;
      let more = false;
      for (const player of players) {
        if (!player.playing || !player.visible) continue;
        more = true;
        const rest = 12;  // steps for which the last frame stands still
        const at = Math.floor((now - player.from) / player.step) % (player.clip.frames.length + rest);
        const number = Math.min(Math.max(at, 0), player.clip.frames.length - 1);
        if (number !== player.number) show(player, number);
      }
      if (more) request();
    }

    document.querySelectorAll(".mistake").forEach((card, at) => {
      const clip = found.clips[at], slider = card.querySelector("input"), button = card.querySelector("button");
      const player = { clip, slider, button, groups: [...card.querySelectorAll("svg.pose g")], number: clip.still, playing: false,
                       visible: true, from: 0, step: Math.max(1000 * clip.seconds / clip.frames.length, 16) };
      card.querySelector(".player").hidden = false;
      slider.max = clip.frames.length - 1;
      button.addEventListener("click", () => play(player, !player.playing));
      slider.addEventListener("input", () => { play(player, false); show(player, Number(slider.value)); });
      players.push(player);
      show(player, clip.still);
      new IntersectionObserver(([entry]) => { player.visible = entry.isIntersecting; if (player.visible) request(); }).observe(card);
      if (!still.matches) play(player, true);
    });
    still.addEventListener("change", () => players.forEach((player) => play(player, !still.matches)));
    const all = document.getElementById("all");
    if (!all || !players.length) return;
    all.hidden = false;
    all.addEventListener("click", () => { const on = !players.some((player) => player.playing); players.forEach((player) => play(player, on)); });
  }

  if (data.matrix) matrix(data.matrix, document.querySelector(".plane"));
  if (data.mistakes) skeletons(data.mistakes);
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
