// How gen1.js goes on from positions of the simulator's battles, and how these do: node gen1_model.js ASSETS, in the
// package's folder, with packed teams as JSON on stdin. Both sides choose as DuelTrainer. Prints {alike, choices}: how
// many choices are the same in both; and positions: of each, [mean, its standard error] of what both sides have after
// TURNS turns (HP, who is left, who has a status), in the simulator and in the model.
'use strict';

const path = require('path');
const { Battle } = require(path.resolve('dist/sim/battle.js'));
const { PRNG } = require(path.resolve('dist/sim/prng.js'));
const assets = process.argv[2];
const { choose } = require(path.join(assets, 'duelling.js'));
const { copyOf } = require(path.join(assets, 'copying.js'));
const { keepDraws, redraw } = require(path.join(assets, 'counters.js'));
const { Gen1Battle, SWITCH } = require(path.join(assets, 'gen1.js'));

const TURNS = 4, COPIES = 60, MODELS = 1200, POSITIONS = 6;
const seedOf = n => `sodium,${n.toString(16).padStart(64, '0')}`;
const teams = JSON.parse(require('fs').readFileSync(0, 'utf8'));

function answerAll(battle, watch = () => {}) {
	for (const side of battle.sides) {
		if (battle.ended || !side.activeRequest || side.activeRequest.wait || side.isChoiceDone()) continue;
		const choice = choose(side);
		watch(side, choice);
		if (!battle.choose(side.id, choice)) battle.choose(side.id, 'default');
	}
}

const sumsOf = (sides, left) => sides.flatMap(team => [
	team.reduce((sum, each) => sum + left(each), 0), team.filter(each => left(each) > 0).length,
	team.filter(each => left(each) > 0 && each.status).length,
]);

function inSimulator(battle, seed) {
	const copy = copyOf(battle), last = battle.turn + TURNS;
	copy.prng = new PRNG(seedOf(seed));
	redraw(copy, null);
	while (!copy.ended && !(copy.turn >= last && copy.requestState === 'move')) answerAll(copy);
	return sumsOf(copy.sides.map(side => side.pokemon), pokemon => pokemon.hp / pokemon.maxhp);
}

function inModel(battle, seed) {
	const model = Gen1Battle.of(battle).copy(seed);
	while (!model.ended && (model.turn < TURNS || model.waits)) model.play([0, 1].map(side => model.asks(side) ? model.choose(side) : null));
	return sumsOf(model.teams, fighter => fighter.hp);
}

function meansOf(rows) {
	return rows[0].map((_, i) => {
		const mean = rows.reduce((sum, row) => sum + row[i], 0) / rows.length;
		const variance = rows.reduce((sum, row) => sum + (row[i] - mean) ** 2, 0) / rows.length;
		return [mean, Math.sqrt(variance / rows.length)];
	});
}

const found = { choices: 0, alike: 0, positions: [] };
for (let number = 0; number < POSITIONS; number++) {
	const battle = new Battle({ formatid: 'gen1ou', seed: seedOf(number + 1), send() {} });
	['p1', 'p2'].forEach((seat, i) => battle.setPlayer(seat, { name: seat, team: teams[(number * (3 + 4 * i) + i) % teams.length] }));
	keepDraws(battle);
	const watch = (side, choice) => {
		const model = Gen1Battle.of(battle), same = model.choose(side.n);
		if (side.activeRequest.active?.[0].moves.length === 1) return; // nothing to choose
		found.choices++;
		found.alike += choice === (same >= SWITCH ? `switch ${same - SWITCH + 1}` : `move ${same + 1}`);
	};
	while (!battle.ended && !(battle.turn > 3 * number && battle.requestState === 'move')) answerAll(battle, watch);
	if (battle.ended) continue;
	const range = n => Array.from({ length: n }, (_, i) => 7919 * i + 13);
	found.positions.push([meansOf(range(COPIES).map(seed => inSimulator(battle, seed))), meansOf(range(MODELS).map(seed => inModel(battle, seed)))]);
}
console.log(JSON.stringify(found));
