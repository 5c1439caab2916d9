// What duelling.js would choose at every choice of some battles that were played: node duel_choices.js ASSETS, in the
// package's folder, with input logs as JSON on stdin; prints [played, would choose] for each choice.
'use strict';

const path = require('path');
const { Battle } = require(path.resolve('dist/sim/battle.js'));
const assets = process.argv[2];
const { choose } = require(path.join(assets, 'duelling.js'));

function replay(inputs) {
	const said = inputs.filter(line => !line.startsWith('>version'));
	const options = said.slice(0, 3).map(line => JSON.parse(line.slice(line.indexOf('{'))));
	const battle = new Battle({ formatid: options[0].formatid, seed: options[0].seed, send() {} });
	options.slice(1).forEach((player, i) => battle.setPlayer(`p${i + 1}`, player));
	battle.sendUpdates();
	const pairs = [];
	for (const line of said.slice(3)) {
		const seat = line.slice(1, 3), played = line.slice(4);
		const side = battle.getSide(seat);
		if (!played.startsWith('team') && side.activeRequest && !side.activeRequest.wait) {
			side.choose(choose(side));
			pairs.push([played, side.getChoice()]);
			side.clearChoice();
		}
		battle.choose(seat, played);
	}
	return pairs;
}

const logs = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(logs.flatMap(replay)));
