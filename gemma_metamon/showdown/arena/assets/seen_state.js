// What one seat was told of a battle, in the simulator's own serialised form: the rest is not in it. Nothing is taken
// away from a copy of the truth; what a seat may know is written down here, field by field, and only that is carried.
'use strict';

const path = require('path');
const { State } = require(path.resolve('dist/sim/state.js'));
const { Teams } = require(path.resolve('dist/sim/teams.js'));
const { Refusal } = require('./room.js');

const LETTERS = 'abcdefghijklmnopqrstuvwx';
const words = text => new Set(text.trim().split(/\s+/));

const BATTLE = words(`
	formatid gameType activePerHalf rated debugMode forceRandomChance strictChoices reportExactHP reportPercentages
	supportCancel requestState turn midTurn started ended lastMove lastSuccessfulMoveThisTurn
`);
const SIDE = words(`
	name avatar id n foe allySide active pokemonLeft faintedLastTurn faintedThisTurn totalFainted zMoveUsed dynamaxUsed
	lastMove lastEnemyMove sideConditions slotConditions
`);
// of every Pokémon that was seen
const POKEMON = words(`
	position isActive isStarted previouslySwitchedIn fainted faintQueued terastallized timesAttacked ateBerry swordBoost
	shieldBoost syrupTriggered heroMessageDisplayed bondTriggered stellarBoostedTypes itemKnockedOff formeRegression
`);
// of the one on the field
const ACTIVE = words(`
	boosts volatiles activeTurns activeMoveActions newlySwitched draggedIn beingCalledBack switchFlag forceSwitchFlag
	skipBeforeSwitchOutEventFlag lastMove lastMoveEncore lastMoveUsed moveThisTurn moveThisTurnResult moveLastTurnResult
	statsRaisedThisTurn statsLoweredThisTurn usedItemThisTurn attackedBy subFainted
`);
// What everybody sees begin and end. Not here: what only a hidden choice, item or ability makes (rebuilding.js adds what
// follows from the sample: choicelock, unburden).
const VOLATILES = words(`
	aquaring attract autotomize banefulbunker beakblast bide burningbulwark charge commanded commanding confusion curse
	defensecurl destinybond disable dragoncheer dynamax electrify embargo encore endure fakepartiallytrapped flashfire
	focusenergy focuspunch followme foresight furycutter gastroacid glaiverush gmaxchistrike grudge healblock helpinghand
	iceball imprison ingrain invulnerability kingsshield laserfocus leechseed lightscreen lockedmove lockon magiccoat
	magnetrise maxguard mefirst minimize miracleeye mist mudsport mustrecharge nightmare noretreat obstruct octolock
	partiallytrapped partialtrappinglock perishsong powder powershift powertrick protect protosynthesis quarkdrive rage
	ragepowder reflect residualdmg rollout rolloutstorage roost saltcure shelltrap silktrap slowstart smackdown snatch
	sparklingaria spikyshield spotlight stall stockpile substitute syrupbomb tarshot taunt telekinesis throatchop torment
	trapped trapper twoturnmove uproar watersport yawn zenmode
`);
// Of an effect's state, wherever it is. How long it lasts is drawn again afterwards (counters.js).
const EFFECT = words(`
	id name target source sourceSlot sourceEffect effectOrder isSlotCondition duration time trueDuration totalDuration
	startTime startingTurn endingTurn skippedTime drawn move moveid moveSlot slot slotIndex stage counter layers hitCount
	contactHitCount multiplier accuracy linkedPokemon linkedStatus locked counterpart maybeLocked boundDivisor damage bestStat
	fromBooster def spd turns position typeWas hasDragonType boosts targetLoc targetSlot moveData shown wraps
`);
// A volatile of the seat's own Pokémon, or a condition of its side, that it does not know of.
const UNTOLD = words('pursuit flinch');

// The state for State.deserializeBattle, and for every Pokémon of the team `hidden` what the simulator holds of the one
// that was seen as it (null of those never seen). `hidden` stands in its order on the fork's side.
function seenState(battle, mine, hidden) {
	const truth = State.serializeBattle(battle);
	const other = 1 - mine;
	const seen = matchSeen(battle.sides[other], hidden);
	const sides = [];
	sides[mine] = ownSide(truth.sides[mine]);
	sides[other] = otherSide(truth.sides[other], seen, hidden, battle);
	const { weather, weatherState, terrain, terrainState, pseudoWeather } = truth.field;
	const known = {
		...pick(truth, BATTLE),
		field: {
			weather, weatherState: weather ? effect(weatherState) : NONE,
			terrain, terrainState: terrain ? effect(terrainState) : NONE,
			pseudoWeather: effects(pseudoWeather),
		},
		sides, faintQueue: [], queue: queue(battle, truth, other), hints: [], log: [], prngSeed: NO_SEED, prng: NO_SEED,
	};
	let text = JSON.stringify(known, bareMoves);
	text = text.replace(new RegExp(`\\[Pokemon:p${other + 1}([a-x])\\]`, 'g'), (_, letter) => {
		const place = seen.places[LETTERS.indexOf(letter)];
		return `[Pokemon:p${other + 1}${LETTERS[place === undefined ? 0 : place]}]`;
	});
	return { state: inOrder(text), carried: seen.carried.map((pokemon, i) => pokemon && carry(pokemon, hidden[i])), lastHit: battle.lastDamage && battle.lastHit };
}

function pick(from, fields) {
	const to = {};
	for (const key of Object.keys(from)) if (fields.has(key)) to[key] = from[key];
	return to;
}

const effect = state => pick(state, EFFECT);
const NO_SEED = 'gen5,0000000000000000'; // nothing is drawn before another one is given
const NONE = { id: '', effectOrder: 0 }; // one that has ended leaves traces
function effects(states, allowed) {
	const to = {};
	for (const [id, state] of Object.entries(states)) if (allowed ? allowed.has(id) : !UNTOLD.has(id)) to[id] = effect(state);
	return to;
}

// An effect of a move may have been changed by what only its user knows: its name is enough.
function bareMoves(key, value) {
	return value && typeof value.move === 'string' && value.move.startsWith('[Move:') && 'hit' in value ?
		{ hit: 0, move: value.move } : value;
}

// Effects are numbered as they begin, hidden ones too: only their order stays.
function inOrder(text) {
	const pattern = /"effectOrder":([\d.]+)/g;
	const orders = [...new Set([...text.matchAll(pattern)].map(match => Number(match[1])))].sort((a, b) => a - b);
	const ranks = new Map(orders.map((order, i) => [order, i]));
	const state = JSON.parse(text.replace(pattern, (_, order) => `"effectOrder":${ranks.get(Number(order))}`));
	state.effectOrder = orders.length;
	return state;
}

function ownSide(side) {
	const pokemon = side.pokemon.map(each => {
		const own = { ...each, volatiles: {}, lastDamage: 0 }; // what it did to the other side
		for (const [id, state] of Object.entries(each.volatiles)) if (!UNTOLD.has(id)) own.volatiles[id] = state;
		return own;
	});
	return {
		...side, pokemon, sideConditions: effects(side.sideConditions), slotConditions: side.slotConditions.map(c => effects(c)),
		activeRequest: null, choice: { switchIns: [] },
	};
}

// Which Pokémon was seen as which of `hidden`: by the name it showed. The one on the field counts for what it shows.
function matchSeen(side, hidden) {
	const size = side.pokemon.length;
	const who = `${side.id} has ${size} Pokémon`;
	if (hidden.length !== size) throw new Refusal(`the hidden team has ${hidden.length} Pokémon, but ${who}`);
	const places = [], carried = Array(size).fill(null);
	for (const [j, pokemon] of side.pokemon.entries()) {
		const shown = pokemon.isActive && pokemon.illusion || pokemon;
		const place = hidden.findIndex(each => each.ident === shown.fullname);
		if (place < 0) {
			if (pokemon.previouslySwitchedIn && pokemon.baseAbility !== 'illusion') throw new Refusal(`the hidden team lacks ${shown.fullname}, which was seen`);
			continue;
		}
		places[j] = place;
		if (pokemon.isActive || !carried[place]) carried[place] = pokemon;
	}
	const active = side.active[0];
	if (active && places[active.position] !== 0) {
		throw new Refusal(`the hidden team must begin with the Pokémon on the field, and begins with ${hidden[0].ident}`);
	}
	return { places, carried };
}

function otherSide(side, { carried }, hidden, battle) {
	const pokemon = hidden.map((each, i) => {
		const set = readSet(each, battle);
		const seen = carried[i] && side.pokemon[carried[i].position];
		return { ...(seen ? seenPokemon(seen, carried[i], each) : {}), set, position: i };
	});
	for (const [i, each] of hidden.entries()) {
		const species = battle.dex.species.get(pokemon[i].set.species);
		if (!species.exists) throw new Refusal(`the simulator knows no ${pokemon[i].set.species} of the hidden team`);
		const shown = carried[i] && shownSpecies(carried[i]);
		if (shown && shown.baseSpecies !== species.baseSpecies && !carried[i].transformed) {
			throw new Refusal(`the hidden team has ${species.name} as ${each.ident}, which was seen as ${shown.name}`);
		}
	}
	return {
		...pick(side, SIDE), mayTerastallize: side.pokemon.some(each => each.canTerastallize), pokemon, team: hidden.map((_, i) => i + 1).join(hidden.length > 9 ? ',' : ''), activeRequest: null,
		choice: { switchIns: [] }, sideConditions: effects(side.sideConditions),
		slotConditions: side.slotConditions.map(conditions => effects(conditions)),
	};
}

const shownSpecies = pokemon => (pokemon.isActive && pokemon.illusion || pokemon).baseSpecies;

// As the validator fills what a packed team leaves out.
function readSet({ packed }, battle) {
	const [set] = Teams.unpack(packed) || [];
	if (!set?.moves?.some(Boolean)) throw new Refusal(`${JSON.stringify(packed)} is no packed Pokémon with moves`);
	const most = battle.ruleTable.evLimit === null ? 252 : 0;
	set.evs ||= { hp: most, atk: most, def: most, spa: most, spd: most, spe: most };
	return set;
}

function seenPokemon(state, pokemon, { condition, item, ability }) {
	const known = pick(state, POKEMON);
	const [, status] = condition.split(' ');
	if (status && status !== 'fnt' && state.status === status) {
		known.status = status;
		known.statusState = effect(state.statusState);
		if (pokemon.ability === 'earlybird' && status === 'slp') { // counts double, which nobody is told
			known.statusState.time += Math.floor(((state.statusState.drawn?.time || 0) - state.statusState.time) / 2) || 0;
		}
	}
	if (!pokemon.isActive) return known;
	Object.assign(known, pick(state, ACTIVE));
	known.volatiles = effects(state.volatiles, VOLATILES);
	known.attackedBy = state.attackedBy.map(({ source, move, thisTurn, slot }) => ({ source, move, thisTurn, slot, damage: 0, damageValue: 0 }));
	const isActor = !pokemon.illusion;
	known.abilityState = { ...(isActor && ability === pokemon.ability ? state.abilityState : {}), id: '', target: state.abilityState.target, effectOrder: state.abilityState.effectOrder };
	known.itemState = { ...(isActor && item && item === pokemon.item ? state.itemState : {}), id: '', target: state.abilityState.target, effectOrder: state.abilityState.effectOrder + 0.5 };
	return known;
}

// What has still to happen in this turn. That the other side has something to do is seen; what, is drawn later.
function queue(battle, truth, other) {
	const left = [];
	for (const [i, action] of battle.queue.list.entries()) {
		if (!action.pokemon || action.pokemon.side.n !== other || ['runSwitch'].includes(action.choice)) {
			left.push(truth.queue[i]);
		} else if (['move', 'switch'].includes(action.choice)) {
			left.push({ choice: 'move', pokemon: truth.queue[i].pokemon });
		}
	}
	return left;
}

// Of a Pokémon that was seen, what rebuilding.js needs: plain values, or those of the own side's Pokémon.
function carry(pokemon, { item }) {
	const seen = { isActive: pokemon.isActive, lastItem: item === null ? '' : pokemon.lastItem };
	if (pokemon.isActive && pokemon.illusion) return seen;
	const base = pokemon.baseSpecies, species = pokemon.species;
	Object.assign(seen, { baseSpecies: base.id, species: pokemon.isActive ? species.id : base.id });
	if (!pokemon.isActive) return seen;
	const changed = pokemon.types.join() !== species.types.join();
	Object.assign(seen, { types: changed && [...pokemon.types], addedType: pokemon.addedType });
	if (pokemon.transformed) {
		const { moveSlots, hpType, hpPower, storedStats, modifiedStats, knownType, apparentType, ability } = pokemon;
		seen.copied = { moveSlots: moveSlots.map(slot => ({ ...slot })), hpType, hpPower, storedStats: { ...storedStats }, knownType, apparentType, ability };
		if (modifiedStats) seen.copied.modifiedStats = { ...modifiedStats };
	} else {
		seen.learned = pokemon.moveSlots.filter(slot => slot.virtual).map(slot => ({ ...slot }));
		if (pokemon.modifiedStats) seen.halvings = halvings(pokemon);
	}
	return seen;
}

const GEN1_STAGES = { 0: 1, 1: 1.5, 2: 2, 3: 2.5, 4: 3, 5: 3.5, 6: 4, '-1': 0.66, '-2': 0.5, '-3': 0.4, '-4': 0.33, '-5': 0.28, '-6': 0.25 };
const staged = (stat, stage) => Math.max(1, Math.min(999, Math.floor(stat * GEN1_STAGES[stage])));

// In gen 1 a paralysis quarters the speed and a burn halves the attack, again and again or not at all: how often, the
// seat has seen, and the stats themselves are the sample's.
function halvings({ modifiedStats, storedStats, boosts }) {
	const times = {};
	for (const stat of ['atk', 'spe']) times[stat] = Math.max(0, Math.round(Math.log2(staged(storedStats[stat], boosts[stat]) / modifiedStats[stat])));
	return times;
}

module.exports = { seenState, staged };
