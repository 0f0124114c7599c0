// Round values to mark on a logarithmic axis.
function marks(low, high) {
  const power = 10 ** Math.floor(Math.log10(low));
  if (high / low > 2.5) return [1, 2, 3, 5, 7, 10, 20, 30, 50].map((m) => m * power).filter((v) => v >= low && v <= high);
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5].map((m) => m * power).find((s) => (high - low) / s <= 7);
  return [...Array(9).keys()].map((i) => (Math.ceil(low / step) + i) * step).filter((v) => v <= high);
}

