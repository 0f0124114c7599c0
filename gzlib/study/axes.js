// Round values to mark on a logarithmic axis.
function marks(low, high) {
  const power = 10 ** Math.floor(Math.log10(low));
  if (high / low > 2.5) return [1, 2, 3, 5, 7, 10, 20, 30, 50].map((m) => m * power).filter((v) => v >= low && v <= high);
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5].map((m) => m * power).find((s) => (high - low) / s <= 7);
  return [...Array(9).keys()].map((i) => (Math.ceil(low / step) + i) * step).filter((v) => v <= high);
}

// What stands at them: as many decimals at each as the one with the most has.
function markTexts(values) {
  const texts = values.map((v) => String(Number(v.toPrecision(3))));
  if (texts.some((text) => text.includes("e"))) return texts;
  const decimals = Math.max(...texts.map((text) => (text.split(".")[1] || "").length));
  return values.map((v) => v.toFixed(decimals));
}

