// Looks ahead: plays each of some choices on, a few turns, in what a battle may be as its seat may know it, and says how
// it stands then. In gen 1 that is played in a model (gen1.js), elsewhere in copies of the battle. Nothing is told of it,
// and nothing stays.
'use strict';

const path = require('path');
const { PRNG } = require(path.resolve('dist/sim/prng.js'));
const { worlds: worldsOf } = require('./forking.js');
const { copyOf } = require('./copying.js');
const { choose } = require('./duelling.js');
const { Gen1Battle, SWITCH } = require('./gen1.js');
const { numbersOfSide, standing } = require('./standing.js');

const ANY_SEED = `sodium,${'1'.padStart(64, '0')}`;
const MAX_STEPS = 8; // per turn: choices, and those of who comes in

// worlds [{seed, hidden}, ...] (see forking.js), choices ["move 1", ...]: for each world, how each of the choices ends
// up `turns` turns later, on average over so many `times`, about the chance to win. In one world all choices meet the
// same team, and each time dice that are the same.
function lookAhead(source, seat, { worlds, choices, turns, times }) {
	const mine = seat === 'p1' ? 0 : 1;
	const guess = source.battle.gen === 1 ? guessGen1 : guessCopies;
	return worlds.map(({ seed, hidden }) => {
		const play = guessed(source, seat, hidden, guess)(seed, mine, turns);
		const sums = choices.map(() => 0);
		for (let time = 0; time < times; time++) {
			const once = play(time);
			choices.forEach((choice, i) => sums[i] += once(choice));
		}
		return sums.map(sum => Math.round(1e6 * sum / times) / 1e6);
	});
}

// What was made of a guessed team, as long as its battle waits for the same choice.
const guesses = new WeakMap();
function guessed(source, seat, hidden, guess) {
	const asked = `${seat} ${source.asked[seat].rqid}`, team = JSON.stringify(hidden);
	let known = guesses.get(source);
	if (known?.asked !== asked) guesses.set(source, known = { asked, made: new Map() });
	if (!known.made.has(team)) known.made.set(team, guess(worldsOf(source, seat, hidden)));
	return known.made.get(team);
}

function guessGen1(make) {
	const battle = make(ANY_SEED), model = Gen1Battle.of(battle); // what is drawn there, copies of the model draw again
	return (seed, mine, turns) => {
		const [own] = battle.sides[mine].activeRequest.active || [], first = new PRNG(seed).random(2 ** 31);
		return time => choice => {
			const [verb, place] = choice.split(' ');
			const id = verb === 'move' && own.moves[place - 1].id;
			return playModel(model.copy(first + 7919 * time), mine, id ? model.placeOf(mine, id) : SWITCH + Number(place) - 1, turns);
		};
	};
}

function playModel(model, mine, choice, turns) {
	const choices = [0, 1].map(side => side === mine ? choice : model.asks(side) ? model.choose(side) : null);
	model.play(choices);
	while (!model.ended && (model.turn < turns || model.waits)) model.play([0, 1].map(side => model.asks(side) ? model.choose(side) : null));
	return model.standing(mine);
}

function guessCopies(make) {
	return (seed, mine, turns) => {
		const world = make(seed);
		return time => {
			const dice = time ? new PRNG(seed).random(2 ** 31) + time : null;
			return choice => {
				const battle = copyOf(world);
				if (time) battle.prng = new PRNG(`sodium,${dice.toString(16).padStart(64, '0')}`);
				return playOut(battle, mine, choice, turns);
			};
		};
	};
}

function playOut(battle, mine, choice, turns) {
	beQuiet(battle);
	const own = battle.sides[mine], last = battle.turn + turns;
	answer(battle, own, choice);
	for (let steps = 0; steps < MAX_STEPS * turns && !battle.ended; steps++) {
		if (battle.turn >= last && battle.requestState === 'move') break;
		for (const side of battle.sides) {
			if (!battle.ended && side.activeRequest && !side.isChoiceDone()) answer(battle, side, choose(side));
		}
	}
	if (battle.ended) return battle.winner ? Number(battle.winner === own.name) : 0.5;
	return standing(numbersOfSide(own), battle.gen);
}

function answer(battle, side, choice) {
	if (!battle.choose(side.id, choice)) {
		side.clearChoice();
		battle.choose(side.id, 'default');
	}
}

// Nobody hears of this battle, so that it need not say anything.
function beQuiet(battle) {
	const nothing = () => {};
	battle.restart(nothing);
	for (const saying of ['add', 'addMove', 'addSplit', 'attrLastMove', 'retargetLastMove', 'hint', 'debug', 'sendUpdates']) battle[saying] = nothing;
	for (const side of battle.sides) {
		Object.assign(side, { getRequestData: nothing, emitRequest: (request = side.activeRequest) => { side.activeRequest = request; } });
	}
}

module.exports = { lookAhead };
