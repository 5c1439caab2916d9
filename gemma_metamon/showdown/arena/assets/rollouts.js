// Looks ahead: plays each of some choices in copies of a battle as its seat may know it, a few turns on, and says how
// the copies stand then. Nothing is told of them, and nothing stays.
'use strict';

const { battleAs } = require('./forking.js');
const { copyOf } = require('./copying.js');
const { choose, fighter, outlook, weaponsOf, worth } = require('./duelling.js');

const MAX_STEPS = 8; // per turn: choices, and those of who comes in

// worlds [{seed, hidden}, ...] (see forking.js), choices ["move 1", ...]: for each world, how each of the choices ends
// up `turns` turns later, as `standing` has it. In one world all choices meet the same team and the same dice.
function lookAhead(source, seat, worlds, choices, turns) {
	const mine = seat === 'p1' ? 0 : 1;
	return worlds.map(({ seed, hidden }) => {
		const battle = battleAs(source, seat, seed, hidden);
		return choices.map(choice => playOut(copyOf(battle), mine, choice, turns));
	});
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
	return standing(battle, own);
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

// About the chance to win, in 0..1.
function standing(battle, own) {
	if (battle.ended) return battle.winner ? Number(battle.winner === own.name) : 0.5;
	const sum = side => side.pokemon.reduce((total, pokemon) => total + worth(pokemon.status, pokemon.hp / pokemon.maxhp), 0);
	const [mine] = own.active, [theirs] = own.foe.active;
	let lead = sum(own) - sum(own.foe);
	if (mine?.hp && theirs?.hp) {
		const { dex } = battle;
		lead += outlook(fighter(mine), weaponsOf(dex, mine.moves), fighter(theirs), weaponsOf(dex, theirs.moves));
	}
	return 1 / (1 + Math.exp(-lead));
}

module.exports = { lookAhead };
