/** Metadata without the networks: for pages that show pictures which something else draws. */
export { type Infotext, parseInfotext } from "./image/infotext.ts"
export { type ImageMetadata, readMetadata } from "./image/metadata.ts"
