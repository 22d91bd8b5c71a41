// watch.js PATH: "ready", then fs.watch's events, until it is killed
const fs = require('fs');
fs.watch(process.argv[2], (kind, name) => console.log(`${kind} ${name}`));
console.log('ready');
