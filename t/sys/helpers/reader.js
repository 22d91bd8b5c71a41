// As reader.c, in Node, whose readFileSync believes st_size: reader.js FILE N
const fs = require('fs');
const [path, n] = [process.argv[2], Number(process.argv[3])];
const whole = /^name=orders\nfirst=(\d+)\na=(\d+)-(x*)\nb=(\d+)\nlast=(\d+)\n$/;
let first = 0, last = 0;
for (let i = 0; i < n; i++) {
	const text = fs.readFileSync(path, 'latin1');
	const m = whole.exec(text);
	if (!m) {
		console.log(`bad form at round ${i}, ${text.length} bytes: ${text.slice(0, 300)}`);
		process.exit(1);
	}
	const v = Number(m[1]);
	if (Number(m[2]) !== v || Number(m[4]) !== v || Number(m[5]) !== v || m[3].length !== (v * 37) % 3000) {
		console.log(`bad mix at round ${i}: ${text.slice(0, 300)}`);
		process.exit(1);
	}
	if (v < last) {
		console.log(`bad went back at round ${i}: ${v} after ${last}`);
		process.exit(1);
	}
	last = v;
	first = first || v;
}
console.log(`ok ${n} first ${first} last ${last}`);
