// One colour per expert: equal in lightness and strength, so that none looks more important than another.

/** Up to 24 experts go once around the circle. More go around by the golden angle, so that neighbours differ. */
export function expertColour(expert, numExperts) {
  const hue = numExperts <= 24 ? (expert * 360) / numExperts + 285 : expert * 137.508 + 285;
  const lightness = numExperts <= 24 ? [0.66, 0.76][expert % 2] : [0.6, 0.7, 0.8][expert % 3];
  return `oklch(${lightness} 0.115 ${(hue % 360).toFixed(1)})`;
}
