// Each scene shows surfaces by rotation, a depth buffer and shading: no WebGL, no library. Where
// reference and prediction lie within a cell of each other they are grey, else in their own colour.
const SIDES = { reference: [86, 180, 233], prediction: [230, 159, 0] }, BOTH = [205, 205, 205];

// Rows of three numbers of 16 bits, from their differences by deflate and base64.
const numbers = async (text) => {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const bytes = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint16Array(await new Response(bytes).arrayBuffer());
  for (let i = 3; i < rows.length; i++) rows[i] += rows[i - 3];
  return rows;
};

// Unit normal of every vertex: the mean of its faces'.
const normalsOf = (vertices, triangles) => {
  const normals = new Float32Array(vertices.length);
  for (let t = 0; t < triangles.length; t += 3) {
    const [a, b, c] = [0, 1, 2].map((i) => 3 * triangles[t + i]);
    const across = [0, 1, 2].map((i) => vertices[b + i] - vertices[a + i]);
    const along = [0, 1, 2].map((i) => vertices[c + i] - vertices[a + i]);
    for (let i = 0; i < 3; i++) {
      const j = (i + 1) % 3, k = (i + 2) % 3, value = across[j] * along[k] - across[k] * along[j];
      for (const corner of [a, b, c]) normals[corner + i] += value;
    }
  }
  for (let v = 0; v < normals.length; v += 3) {
    const length = Math.hypot(normals[v], normals[v + 1], normals[v + 2]) || 1;
    for (let i = 0; i < 3; i++) normals[v + i] /= length;
  }
  return normals;
};

// Fill one triangle of screen points [x, y, depth, shade] into the buffers of one side.
const fill = (p, q, r, size, depth, shade) => {
  const area = (q[0] - p[0]) * (r[1] - p[1]) - (r[0] - p[0]) * (q[1] - p[1]);
  if (!area) return;
  const range = (i) => [
    Math.max(0, Math.ceil(Math.min(p[i], q[i], r[i]))),
    Math.min(size - 1, Math.floor(Math.max(p[i], q[i], r[i]))),
  ];
  const [left, right] = range(0), [top, bottom] = range(1);
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const u = ((q[0] - x) * (r[1] - y) - (r[0] - x) * (q[1] - y)) / area;
      const v = ((r[0] - x) * (p[1] - y) - (p[0] - x) * (r[1] - y)) / area, w = 1 - u - v;
      if (u < 0 || v < 0 || w < 0) continue;
      const z = u * p[2] + v * q[2] + w * r[2], pixel = y * size + x;
      if (z > depth[pixel]) {
        depth[pixel] = z;
        shade[pixel] = u * p[3] + v * q[3] + w * r[3];
      }
    }
  }
};

const showScene = async (scene) => {
  const canvas = scene.querySelector("canvas"), size = canvas.width;
  const [turn, tilt] = [".turn", ".tilt"].map((name) => scene.querySelector(name));
  const structure = scene.querySelector(".structure"), sides = [...scene.querySelectorAll(".side")];
  const extent = scene.dataset.size.split(" ").map(Number), step = Number(scene.dataset.step);
  const cell = Number(scene.dataset.cell);
  const unpack = async (one) => {
    const [coded, triangles] = [await numbers(one.dataset.vertices), await numbers(one.dataset.triangles)];
    const vertices = Float32Array.from(coded, (value, i) => value * step - extent[i % 3] / 2);
    return { ...one.dataset, triangles, vertices, normals: normalsOf(vertices, triangles) };
  };
  const surfaces = await Promise.all([...scene.querySelectorAll(".surface")].map(unpack));
  const scale = (0.96 * size) / Math.hypot(...extent);

  // Axes of the screen in x to the left, y to the back, z to the head: from the front at 0, 0.
  const axes = () => {
    const [a, b] = [turn, tilt].map((one) => (Number(one.value) * Math.PI) / 180);
    const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    return [[ca, sa, 0], [-sb * sa, sb * ca, cb], [cb * sa, -cb * ca, sb]];
  };
  const layer = (side, [right, up, near]) => {
    const depth = new Float32Array(size * size).fill(-Infinity), shade = new Float32Array(size * size);
    const dot = (axis, values, at) => axis[0] * values[at] + axis[1] * values[at + 1] + axis[2] * values[at + 2];
    for (const one of surfaces) {
      if (one.side !== side || (structure && structure.value && structure.value !== one.name)) continue;
      const points = [];
      for (let v = 0; v < one.vertices.length; v += 3) {
        points.push([
          size / 2 + scale * dot(right, one.vertices, v), size / 2 - scale * dot(up, one.vertices, v),
          dot(near, one.vertices, v), 0.35 + 0.65 * Math.abs(dot(near, one.normals, v)),
        ]);
      }
      for (let t = 0; t < one.triangles.length; t += 3) {
        const [a, b, c] = [0, 1, 2].map((i) => points[one.triangles[t + i]]);
        fill(a, b, c, size, depth, shade);
      }
    }
    return { depth, shade, colour: SIDES[side] };
  };
  const paint = () => {
    const screen = axes(), context = canvas.getContext("2d", { willReadFrequently: true });
    const shown = sides.length ? sides.filter((one) => one.checked).map((one) => one.value) : [surfaces[0].side];
    const layers = shown.map((side) => layer(side, screen));
    const picture = context.createImageData(size, size);
    for (let pixel = 0; pixel < size * size; pixel++) {
      const there = layers.filter((one) => one.depth[pixel] > -Infinity);
      if (!there.length) continue;
      const front = there.reduce((one, other) => (other.depth[pixel] > one.depth[pixel] ? other : one));
      const apart = there.length < 2 ? 1 : Math.abs(there[0].depth[pixel] - there[1].depth[pixel]) / cell;
      const own = Math.min(1, Math.max(0, apart - 0.5) * 2);
      for (let i = 0; i < 3; i++) {
        picture.data[4 * pixel + i] = (own * front.colour[i] + (1 - own) * BOTH[i]) * front.shade[pixel];
      }
      picture.data[4 * pixel + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  };
  const said = (control, [more, less]) => {
    const angle = Number(control.value), text = angle ? `${Math.abs(angle)}° ${angle > 0 ? more : less}` : "0°";
    control.setAttribute("aria-valuetext", text);
    scene.querySelector(`output[for="${control.id}"]`).textContent = text;
  };
  const update = () => {
    said(turn, ["to the patient's left", "to the patient's right"]);
    said(tilt, ["from above", "from below"]);
    paint();
  };
  for (const control of [turn, tilt]) control.addEventListener("input", update);
  for (const control of [structure, ...sides]) if (control) control.addEventListener("change", paint);
  const steps = (degrees) => [turn, tilt].forEach((control) => { control.step = degrees; });
  canvas.addEventListener("pointerdown", () => steps(1));
  canvas.addEventListener("pointerup", () => steps(5));
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    turn.value = ((Number(turn.value) - event.movementX + 540) % 360) - 180;
    tilt.value = Number(tilt.value) + event.movementY;
    update();
  });
  update();
};

// A sentence stands where the surfaces belong; it goes when they are drawn, else all else goes.
for (const scene of document.querySelectorAll(".scene")) {
  const sentence = scene.querySelector(".not-drawn");
  showScene(scene).then(
    () => sentence.remove(),
    (error) => { scene.replaceChildren(sentence); console.warn(error); },
  );
}
