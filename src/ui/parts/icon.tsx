/** Line icons on a grid of 24, drawn for this page. */
const paths = {
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 5M15.5 9.5h.01",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
  download: "M12 4v11M7.5 11l4.5 4.5 4.5-4.5M5 20h14",
  reuse: "M4 12a8 8 0 0 1 13.7-5.6L20 8.5M20 4v4.5h-4.5M20 12a8 8 0 0 1-13.7 5.6L4 15.5M4 20v-4.5h4.5",
  vary: "M7 4h13v13H7zM4 8v12h12",
  brush:
    "M20 4c-5 2-9 6-11 9.500l1.500 1.500C14 13 18 9 20 4zM9 13.500c-2.500 0-4 1.500-4 6 3.500 0 6-1 5.500-4.500",
  eraser: "M4 15l9-9 6 6-7 7H8zM9 10l6 6M12 19h8",
  extend: "M8 8h8v8H8zM12 5V2M12 22v-3M5 12H2M22 12h-3",
  enlarge: "M4 14v6h6M20 10V4h-6M4 20l7-7M20 4l-7 7",
  compare: "M12 3v18M5 6h4v12H5zM15 6h4v12h-4z",
  how: "M12 20v-3M9.500 9.500a2.500 2.500 0 1 1 3.700 2.200c-.8.500-1.200 1-1.200 2.300M12 17h.01M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.500 11v5M13.500 11v5",
  up: "M6 14l6-6 6 6",
  down: "M6 10l6 6 6-6",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l4.500 4.500",
  undo: "M4 9h10a5 5 0 0 1 0 10H9M4 9l4-4M4 9l4 4",
  redo: "M20 9H10a5 5 0 0 0 0 10h5M20 9l-4-4M20 9l-4 4",
  swap: "M7 4L4 7l3 3M4 7h13M17 14l3 3-3 3M20 17H7",
  play: "M8 5l11 7-11 7z",
  pause: "M8 5v14M16 5v14",
  plus: "M12 5v14M5 12h14",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.400 1.400M17.600 17.600L19 19M5 19l1.400-1.400M17.600 6.400L19 5",
  moon: "M19 14.500A7.500 7.500 0 0 1 9.500 5a7.500 7.500 0 1 0 9.500 9.500z",
  invert: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 4v16M12 8h3.500M12 12h7.500M12 16h3.500",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  folder: "M3 6h6l2 2h10v11H3z",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  link: "M10 14l4-4M9 7l2-2a4 4 0 0 1 6 6l-2 2M15 17l-2 2a4 4 0 0 1-6-6l2-2",
  spark: "M12 3v6M12 15v6M3 12h6M15 12h6",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  gallery: "M4 4h16v11H4zM7 19h10M9 22h6",
} as const

export type IconName = keyof typeof paths

export const Icon = ({ name, size = 20 }: { name: IconName; size?: number }) => (
  <svg class="icon" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true" focusable="false">
    <path d={paths[name]} />
  </svg>
)
