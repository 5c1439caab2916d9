// Plays battles of DuelTrainer against itself: node fit_standing.js ASSETS FORMAT BATTLES SEED, in the package's folder,
// with a JSON list of packed teams on stdin. In every second battle a seventh of the choices is any legal one, so that
// there is more to see than DuelTrainer leads to. Prints the names of the numbers, and then of about every sixth turn a
// line: the battle, p1's result (1, 0.5, 0) and its numbers (see standing.js). Gen 1 is played in its model.
'use strict';

const path = require('path');
const { Battle } = require(path.resolve('dist/sim/battle.js'));
const { PRNG } = require(path.resolve('dist/sim/prng.js'));
const [assets, formatid, n, seed] = process.argv.slice(2);
const { choose } = require(path.join(assets, 'duelling.js'));
const { Gen1Battle, SWITCH } = require(path.join(assets, 'gen1.js'));
const { NAMES, numbersOfSide } = require(path.join(assets, 'standing.js'));

const MAX_TURNS = 300, SEEN = 6, ODD = 7;
const dice = new PRNG(`sodium,${Number(seed).toString(16).padStart(64, '0')}`);

function begin(teams) {
	const battle = new Battle({ formatid, seed: `sodium,${dice.random(2 ** 31).toString(16).padStart(64, '0')}`, send() {} });
	['p1', 'p2'].forEach(seat => battle.setPlayer(seat, { name: seat, team: dice.sample(teams) }));
	while (battle.requestState === 'teampreview') for (const side of battle.sides) battle.choose(side.id, 'default');
	return battle;
}

function playModel(battle, isOdd) {
	const model = Gen1Battle.of(battle).copy(dice.random(2 ** 31)), rows = [];
	const any = side => dice.sample([
		...model.fighter(side).plans.keys(), ...model.teams[side].flatMap((each, i) => each.left > 0 && i !== model.active[side] ? [SWITCH + i] : []),
	]);
	const answer = side => isOdd() && !model.waits ? any(side) : model.choose(side);
	while (!model.ended && model.turn < MAX_TURNS) {
		if (!model.waits && model.turn && dice.random(SEEN) === 0) rows.push(model.numbers(0));
		model.play([0, 1].map(side => model.asks(side) ? answer(side) : null));
	}
	return [rows, model.ended ? model.standing(0) : 0.5];
}

function playBattle(battle, isOdd) {
	const rows = [], [own] = battle.sides;
	const any = side => dice.sample([1, 2, 3, 4].map(i => `move ${i}`).concat([2, 3, 4, 5, 6].map(i => `switch ${i}`)));
	while (!battle.ended && battle.turn < MAX_TURNS) {
		if (battle.requestState === 'move' && battle.turn > 1 && dice.random(SEEN) === 0) rows.push(numbersOfSide(own));
		for (const side of battle.sides) {
			if (battle.ended || !side.activeRequest || side.activeRequest.wait || side.isChoiceDone()) continue;
			const done = battle.choose(side.id, isOdd() && battle.requestState === 'move' ? any(side) : choose(side));
			if (!done) battle.choose(side.id, 'default');
		}
	}
	return [rows, battle.winner ? Number(battle.winner === 'p1') : 0.5];
}

const teams = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(NAMES.join(','));
for (let number = 0; number < Number(n); number++) {
	const battle = begin(teams);
	const [rows, result] = (battle.gen === 1 ? playModel : playBattle)(battle, () => number % 2 && dice.random(ODD) === 0);
	for (const row of rows) console.log([number, result, ...Array.from(row, each => +each.toFixed(4))].join(','));
}
