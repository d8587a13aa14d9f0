// Of nobody's function: see ../loader.js.
export const handler = async () => {}
