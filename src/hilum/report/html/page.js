"use strict";
// Each viewer shows one tile of a picture on a canvas; the window maps the stored grey values.
for (const viewer of document.querySelectorAll(".viewer")) {
  const preset = viewer.querySelector(".window"), lines = viewer.querySelector(".outlines");
  const paints = [];
  for (const view of viewer.querySelectorAll(".view")) {
    const canvas = view.querySelector("canvas"), slider = view.querySelector(".slice");
    const tiles = view.querySelector(".tiles"), outlines = view.querySelector(".lines");
    const width = Number(view.dataset.width), height = Number(view.dataset.height);
    const labels = view.dataset.labels.split("|");
    const paint = () => {
      const slice = slider ? Number(slider.value) : 0;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(tiles, 0, slice * height, width, height, 0, 0, width, height);
      if (preset) {
        const { low, high } = preset.selectedOptions[0].dataset;
        const pixels = context.getImageData(0, 0, width, height), data = pixels.data;
        const start = 255 * Number(low), scale = 1 / Math.max(1e-6, Number(high) - Number(low));
        for (let i = 0; i < data.length; i += 4) {
          data[i] = data[i + 1] = data[i + 2] = (data[i] - start) * scale;
        }
        context.putImageData(pixels, 0, 0);
      }
      if (lines.checked) {
        context.drawImage(outlines, 0, slice * height, width, height, 0, 0, width, height);
      }
      if (slider) {
        view.querySelector("output").textContent = labels[slice];
        slider.setAttribute("aria-valuetext", labels[slice]);
      }
    };
    paints.push(paint);
    if (slider) slider.addEventListener("input", paint);
    Promise.all([tiles.decode(), outlines.decode()]).then(paint);
  }
  for (const control of [preset, lines]) {
    if (control) control.addEventListener("change", () => paints.forEach((paint) => paint()));
  }
}
