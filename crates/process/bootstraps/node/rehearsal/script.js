// Of nobody's function: see ../loader.js.
exports.handler = async () => {}
