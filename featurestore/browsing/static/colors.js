// Colours of values: magma, as in the figures of `plot` (by S. van der Walt and N. Smith, CC0), and grey.

const MAGMA =
  "00000401000501010601010802010902020b02020d03030f03031204041405041606051806051a07061c08071e" +
  "0907200a08220b09240c09260d0a290e0b2b100b2d110c2f120d31130d34140e36150e38160f3b180f3d19103f" +
  "1a10421c10441d11471e114920114b21114e22115024125325125527125829115a2a115c2c115f2d11612f1163" +
  "31116533106734106936106b38106c390f6e3b0f703d0f713f0f72400f74420f75440f76451077471078491078" +
  "4a10794c117a4e117b4f127b51127c52137c54137d56147d57157e59157e5a167e5c167f5d177f5f187f601880" +
  "621980641a80651a80671b80681c816a1c816b1d816d1d816e1e81701f81721f81732081752181762181782281" +
  "7922827b23827c23827e24828025828125818326818426818627818827818928818b29818c29818e2a81902a81" +
  "912b81932b80942c80962c80982d80992d809b2e7f9c2e7f9e2f7fa02f7fa1307ea3307ea5317ea6317da8327d" +
  "aa337dab337cad347cae347bb0357bb2357bb3367ab5367ab73779b83779ba3878bc3978bd3977bf3a77c03a76" +
  "c23b75c43c75c53c74c73d73c83e73ca3e72cc3f71cd4071cf4070d0416fd2426fd3436ed5446dd6456cd8456c" +
  "d9466bdb476adc4869de4968df4a68e04c67e24d66e34e65e44f64e55064e75263e85362e95462ea5661eb5760" +
  "ec5860ed5a5fee5b5eef5d5ef05f5ef1605df2625df2645cf3655cf4675cf4695cf56b5cf66c5cf66e5cf7705c" +
  "f7725cf8745cf8765cf9785df9795df97b5dfa7d5efa7f5efa815ffb835ffb8560fb8761fc8961fc8a62fc8c63" +
  "fc8e64fc9065fd9266fd9467fd9668fd9869fd9a6afd9b6bfe9d6cfe9f6dfea16efea36ffea571fea772fea973" +
  "feaa74feac76feae77feb078feb27afeb47bfeb67cfeb77efeb97ffebb81febd82febf84fec185fec287fec488" +
  "fec68afec88cfeca8dfecc8ffecd90fecf92fed194fed395fed597fed799fed89afdda9cfddc9efddea0fde0a1" +
  "fde2a3fde3a5fde5a7fde7a9fde9aafdebacfcecaefceeb0fcf0b2fcf2b4fcf4b6fcf6b8fcf7b9fcf9bbfcfbbd" +
  "fcfdbf";

function table(color) {
  const colors = new Uint32Array(256);
  const bytes = new Uint8Array(colors.buffer);
  for (let value = 0; value < 256; value += 1) bytes.set([...color(value), 255], 4 * value);
  return colors;
}

const hex = (at) => parseInt(MAGMA.slice(at, at + 2), 16);

export const MAPS = {
  magma: table((value) => [0, 2, 4].map((byte) => hex(6 * value + byte))),
  grey: table((value) => [value, value, value]),
};

/** Draw values (rows × columns, the first row lowest) of [0, most] into a canvas of that size.
 *
 * @param range The shares of `most` that get the first and the last colour.
 */
export function paint(canvas, values, offset, [rows, columns], most, map = MAPS.magma, range = [0, 1]) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const [low, high] = range.map((share) => share * most);
  const step = 255 / Math.max(1e-9, high - low);
  for (let row = 0; row < rows; row += 1) {
    const from = offset + (rows - 1 - row) * columns;
    for (let column = 0; column < columns; column += 1) {
      const level = Math.round((values[from + column] - low) * step);
      pixels[row * columns + column] = map[level < 0 ? 0 : level > 255 ? 255 : level];
    }
  }
  context.putImageData(image, 0, 0);
}

/** Draw what the colours of a map and range mean into a canvas, from 0 on the left to 1. */
export function paintBar(canvas, map, range) {
  paint(canvas, Float32Array.from({ length: 256 }, (_, value) => value / 255), 0, [1, 256], 1, map, range);
}
