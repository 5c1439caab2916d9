// A battle of generation 1 in a few numbers, for playing very many turns that nobody sees: some fifty times as fast as a
// copy of the simulator's. It leaves out what hardly anybody uses (LEFT_OUT in gen1_fighter.js); the simulator decides
// what happens, here is only guessed what may. tests/showdown/search/test_gen1_model.py holds it to the simulator.
'use strict';

const { numbersOf, standing } = require('./standing.js');
const { MEAN_ROLL, moveOf, rateOptions, stage, strike } = require('./duelling.js');
const { Fighter, NO_BOOSTS, boost, fighterOf, idleOf, interrupt, isHeld, planOf, ppOf, refresh, spend } = require('./gen1_fighter.js');

const STRUGGLE = 4, SWITCH = 10; // choices: the place of a move, 0 to 3; STRUGGLE; SWITCH + that of a Pokémon
const WRAP_TURNS = [2, 2, 2, 3, 3, 3, 4, 5];
const HITS = [2, 2, 2, 3, 3, 3, 4, 5];
const STAGES = [25, 28, 33, 40, 50, 66, 100, 150, 200, 250, 300, 350, 400].map(percent => percent / 100);
const SHORTEST_CONFUSION = 2, LONGEST_CONFUSION = 5;
const LONGEST_SLEEP = 7, REST_SLEEP = 2;

// Both sides, the one on the field by its place in `teams`.
class Gen1Battle {
	constructor(teams, active, turn) {
		this.teams = teams;
		this.active = active;
		this.turn = turn;
		this.seed = 0;
		this.dice = [0, 0];
		this.actor = 0;
		this.lastDamage = 0;
		this.lastCounterable = false;
	}

	static of(battle) {
		const known = [];
		const teams = battle.sides.map((side, i) => side.pokemon.map((pokemon, j) => fighterOf(pokemon, 6 * i + j, known)));
		return new Gen1Battle(teams, battle.sides.map(side => side.pokemon.indexOf(side.active[0])), 0);
	}

	// The same once more, with dice of its own; how long somebody sleeps on or is confused is drawn with them.
	copy(seed) {
		const made = new Gen1Battle(this.teams.map(team => team.map(fighter => new Fighter(fighter))), [...this.active], this.turn);
		made.seed = seed;
		made.roll();
		for (const [side, team] of made.teams.entries()) {
			made.actor = side;
			for (const each of team) {
				if (each.status === 'slp' && !each.rests) each.asleep = 1 + made.below(LONGEST_SLEEP - each.slept);
				if (each.confused) each.confused = made.confusion(each.staggered);
			}
		}
		return made;
	}

	// Each side has dice of its own, new ones each turn: what one side does changes nothing in the luck of the other.
	roll() {
		for (const side of [0, 1]) this.dice[side] = Math.imul(this.seed + 0x9e3779b9 * (2 * this.turn + side + 1), 0x85ebca6b) | 0;
	}

	below(n) {
		let x = this.dice[this.actor] = this.dice[this.actor] + 0x6d2b79f5 | 0;
		x = Math.imul(x ^ x >>> 15, x | 1);
		x ^= x + Math.imul(x ^ x >>> 7, x | 61);
		return Math.floor(((x ^ x >>> 14) >>> 0) / 4294967296 * n);
	}

	// For how many more turns a confusion goes on that has lasted for so many.
	confusion(turns) {
		const first = Math.max(turns + 1, SHORTEST_CONFUSION);
		return first + this.below(LONGEST_CONFUSION + 1 - first) - turns;
	}

	fighter(side) {
		return this.teams[side][this.active[side]];
	}

	lost(side) {
		for (const each of this.teams[side]) if (each.left > 0) return false;
		return true;
	}

	// Whether somebody must come in.
	get waits() {
		return this.fighter(0).left <= 0 || this.fighter(1).left <= 0;
	}

	// Whether a side has to choose now.
	asks(side) {
		return !this.waits || this.fighter(side).left <= 0;
	}

	placeOf(side, id) {
		const place = this.fighter(side).plans.findIndex(plan => plan.id === id);
		return place < 0 ? STRUGGLE : place;
	}

	// About the chance to win, in 0..1.
	standing(side) {
		const [won, lost] = [this.lost(1 - side), this.lost(side)];
		return won === lost ? won ? 0.5 : standing(this.numbers(side), 1) : Number(won);
	}

	// What `standing` is made of.
	numbers(side) {
		const mine = this.fighter(side), theirs = this.fighter(1 - side);
		mine.idle = idleOf(mine) + (mine.recharging ? 1 : 0);
		theirs.idle = idleOf(theirs) + (theirs.recharging ? 1 : 0);
		return numbersOf(this.teams[side], mine, this.teams[1 - side], theirs);
	}

	get ended() {
		return this.lost(0) || this.lost(1);
	}

	// As DuelTrainer chooses.
	choose(side) {
		const mine = this.fighter(side), theirs = this.fighter(1 - side), team = this.teams[side], must = mine.left <= 0;
		if (!must && isHeld(mine)) return 0;
		const options = [], { plans } = mine;
		if (!must) for (let i = 0; i < plans.length; i++) if (ppOf(mine, i) > 0) options.push({ choice: i, move: plans[i].known });
		options.sort((first, second) => first.move.id < second.move.id ? -1 : 1);
		if (!must && !options.length) options.push({ choice: STRUGGLE, move: moveOf(mine.dex, 'struggle') });
		for (let i = 0; i < team.length; i++) if (i !== this.active[side] && team[i].left > 0) options.push({ choice: SWITCH + i, entering: team[i], weapons: team[i].weapons });
		if (options.length < 2) return options[0].choice;
		mine.idle = idleOf(mine);
		theirs.idle = Math.max(idleOf(theirs), theirs.recharging ? 1 : 0);
		for (const { entering } of options) if (entering) entering.idle = idleOf(entering);
		let sleepClause = false;
		for (const each of this.teams[1 - side]) if (each.status === 'slp') sleepClause = true;
		const ratings = rateOptions(options, mine, mine.weapons, theirs, theirs.assumed, { must, sleepClause });
		let best = 0;
		for (let i = 1; i < options.length; i++) if (ratings[i] > ratings[best]) best = i;
		return options[best].choice;
	}

	// Plays a turn, and brings in whoever must come. `choices` as `choose` gives them, for a side that is asked.
	play(choices) {
		if (this.waits) {
			for (const side of [0, 1]) if (this.fighter(side).left <= 0) this.bring(side, choices[side] - SWITCH);
			return;
		}
		this.turn++;
		this.roll();
		for (const side of [0, 1]) if (choices[side] >= SWITCH) this.bring(side, choices[side] - SWITCH);
		for (const side of this.order(choices)) {
			if (choices[side] >= SWITCH) continue;
			this.actor = side;
			this.act(side, choices[side]);
			if (this.waits) break; // a turn ends with whoever faints
		}
		for (const side of [0, 1]) this.fighter(side).flinches = false;
	}

	order(choices) {
		const [first, second] = [this.fighter(0), this.fighter(1)];
		const [a, b] = [first, second].map((fighter, i) => choices[i] < STRUGGLE ? fighter.plans[choices[i]]?.priority || 0 : 0);
		if (a !== b) return a > b ? [0, 1] : [1, 0];
		if (first.speed !== second.speed) return first.speed > second.speed ? [0, 1] : [1, 0];
		this.actor = 0;
		return this.below(2) ? [0, 1] : [1, 0];
	}

	bring(side, place) {
		const left = this.fighter(side);
		Object.assign(left, { boosts: NO_BOOSTS, screens: [], confused: 0, substitute: 0, behindSubstitute: false, seeded: false, toxic: 0, recharging: false });
		Object.assign(left, { charging: -1, hidden: false, wrap: -1, wrapTurns: 0 });
		refresh(left);
		this.fighter(1 - side).wrapTurns = 0;
		this.active[side] = place;
	}

	// One side's move, from what may keep it from moving to what its status takes afterwards.
	act(side, choice) {
		const mine = this.fighter(side), theirs = this.fighter(1 - side);
		if (this.mayMove(mine, theirs)) this.use(mine, theirs, choice);
		if (mine.status === 'slp' && mine.asleep <= 0) {
			mine.status = '';
			refresh(mine);
		}
		if (mine.left <= 0 || theirs.left <= 0) return;
		if (mine.status === 'brn' || mine.status === 'psn' || mine.status === 'tox') {
			this.hurt(mine, Math.max(1, Math.floor(mine.maxhp / 16)) * Math.max(1, mine.toxic));
			if (mine.toxic) mine.toxic++;
		}
		if (mine.seeded && mine.left > 0) {
			const drained = Math.max(1, Math.floor(mine.maxhp / 16));
			this.hurt(mine, drained);
			this.heal(theirs, drained);
		}
	}

	mayMove(mine, theirs) {
		if (mine.status === 'frz') return false;
		if (mine.status === 'slp') {
			mine.asleep--;
			return false;
		}
		if (theirs.wrapTurns > 0 && theirs.wrap >= 0) return false;
		if (mine.flinches) return false;
		if (mine.recharging) return mine.recharging = false;
		if (mine.confused && --mine.confused && this.below(2)) {
			const strength = mine.stats.atk * stage(mine.boosts.atk), defense = mine.stats.def * stage(mine.boosts.def);
			this.hurt(mine, Math.floor(Math.floor((Math.floor(2 * mine.level / 5) + 2) * strength * 40 / defense) / 50) + 2);
			return interrupt(mine);
		}
		if (mine.status === 'par' && this.below(256) < 63) return interrupt(mine);
		return true;
	}

	use(mine, theirs, choice) {
		const repeats = mine.wrapTurns > 0 && mine.wrap >= 0;
		if (repeats) choice = mine.wrap;
		else if (mine.charging >= 0) choice = mine.charging;
		const plan = mine.plans[choice] || planOf(mine.dex, 'struggle');
		if (repeats) {
			mine.wrapTurns--;
			this.damage(mine, theirs, mine.wrapDamage);
			return;
		}
		if (plan.charges && mine.charging < 0) {
			mine.charging = choice;
			mine.hidden = plan.hides;
			return;
		}
		mine.charging = -1;
		mine.hidden = false;
		spend(mine, choice);
		if (plan.isLeftOut) return;
		if (plan.attack || plan.counters || plan.ohko) this.attack(mine, theirs, plan, choice);
		else this.affect(mine, theirs, plan);
	}

	hits(mine, theirs, plan) {
		if (plan.accuracy > 255) return true;
		if (theirs.hidden) return false;
		if (plan.status === 'slp' && theirs.recharging) return true;
		const accuracy = Math.floor(plan.accuracy * STAGES[mine.boosts.accuracy + 6] * STAGES[6 - theirs.boosts.evasion]);
		return this.below(256) < Math.max(1, Math.min(255, accuracy));
	}

	attack(mine, theirs, plan, choice) {
		const { attack } = plan;
		const blow = attack && strike(attack, mine, theirs);
		const lands = this.hits(mine, theirs, plan) && !(blow && !blow.factor) && !(plan.ohko && theirs.speed > mine.speed);
		let dealt = 0, brokeSubstitute = false;
		if (lands) {
			if (plan.counters) {
				dealt = this.lastCounterable ? 2 * this.lastDamage : 0;
			} else if (plan.ohko) {
				dealt = theirs.left;
			} else if (attack.half) {
				dealt = Math.max(1, Math.floor(theirs.left / 2));
			} else if (plan.id === 'psywave') {
				dealt = 1 + this.below(Math.floor(1.5 * mine.level) - 1);
			} else if (attack.levelShare || attack.fixed) {
				dealt = blow.normal;
			} else {
				const each = this.below(65536) / 65536 < blow.chance ? blow.critical : blow.normal;
				const hits = Array.isArray(plan.multihit) ? HITS[this.below(HITS.length)] : plan.multihit || 1;
				dealt = Math.floor(each / MEAN_ROLL / attack.hits * hits * (217 + this.below(39)) / 255);
			}
			brokeSubstitute = this.damage(mine, theirs, dealt, plan);
		}
		this.lastDamage = lands ? dealt : 0;
		this.lastCounterable = plan.type === 'Normal' || plan.type === 'Fighting';
		if (plan.selfDestruct && !brokeSubstitute) this.hurt(mine, mine.left);
		if (!lands || !dealt) {
			if (plan.crashes && !lands) this.hurt(mine, 1);
			return;
		}
		if (plan.recharges && theirs.left > 0 && !brokeSubstitute) mine.recharging = true;
		if (plan.traps && theirs.left > 0) {
			mine.wrap = choice;
			mine.wrapTurns = WRAP_TURNS[this.below(WRAP_TURNS.length)] - 1;
			mine.wrapDamage = dealt;
			theirs.recharging = false;
		}
		if (plan.second && theirs.left > 0 && !theirs.behindSubstitute && !brokeSubstitute) this.affectSecond(mine, theirs, plan);
	}

	affectSecond(mine, theirs, { second, type }) {
		if (second.status && second.status !== 'psn' && theirs.types.includes(type)) return;
		if (this.below(256) >= second.chance) return;
		if (second.status) this.setStatus(theirs, second.status);
		if (second.boosts) boost(theirs, second.boosts);
		if (second.volatileStatus === 'flinch') theirs.flinches = true;
		if (second.volatileStatus === 'confusion' && !theirs.confused) theirs.confused = this.confusion(0);
	}

	affect(mine, theirs, plan) {
		if (plan.heals) {
			const lacks = mine.maxhp - mine.left;
			if (lacks % 256 !== 255) this.heal(mine, Math.floor(mine.maxhp / 2));
		} else if (plan.id === 'rest') {
			if (mine.left < mine.maxhp) {
				this.heal(mine, mine.maxhp);
				Object.assign(mine, { status: 'slp', asleep: REST_SLEEP, rests: true });
				refresh(mine);
			}
		} else if (plan.screen) {
			if (!mine.screens.includes(plan.screen)) mine.screens = [...mine.screens, plan.screen];
			refresh(mine);
		} else if (plan.id === 'substitute') {
			const price = Math.floor(mine.maxhp / 4);
			if (!mine.substitute && mine.left >= price) {
				this.hurt(mine, price);
				Object.assign(mine, { substitute: price + 1, behindSubstitute: true });
			}
		} else if (plan.id === 'haze') {
			this.haze(mine, theirs);
		} else if (plan.boosts && plan.onSelf) {
			boost(mine, plan.boosts);
		} else if (this.hits(mine, theirs, plan)) {
			if (plan.boosts && !theirs.behindSubstitute) boost(theirs, plan.boosts);
			if (plan.confuses && !theirs.confused && !theirs.behindSubstitute) theirs.confused = this.confusion(0);
			if (plan.seeds && !theirs.types.includes('Grass') && !theirs.behindSubstitute) theirs.seeded = true;
			if (plan.status) this.giveStatus(mine, theirs, plan);
		}
	}

	giveStatus(mine, theirs, { id, status }) {
		if (status === 'par' && id === 'thunderwave' && theirs.types.includes('Ground')) return;
		if ((status === 'psn' || status === 'tox') && theirs.behindSubstitute) return;
		if (status === 'slp' && theirs.recharging) theirs.status = '';
		if (this.setStatus(theirs, status) && status === 'slp') theirs.recharging = false;
	}

	setStatus(fighter, status) {
		const team = this.teams[fighter.number < 6 ? 0 : 1];
		if (fighter.status || ((status === 'psn' || status === 'tox') && fighter.types.includes('Poison'))) return false;
		if (status === 'slp' && team.some(each => each.status === 'slp' && !each.rests && each.left > 0)) return false;
		if (status === 'frz' && team.some(each => each.status === 'frz' && each.left > 0)) return false;
		fighter.status = status;
		if (status === 'slp') Object.assign(fighter, { asleep: 1 + this.below(LONGEST_SLEEP), slept: 0, rests: false });
		if (status === 'tox') fighter.toxic = 1;
		refresh(fighter);
		return true;
	}

	haze(mine, theirs) {
		for (const each of [mine, theirs]) {
			Object.assign(each, { boosts: NO_BOOSTS, screens: [], confused: 0, seeded: false, toxic: 0 });
			if (each === theirs) each.status = '';
			refresh(each);
		}
	}

	// Whether that broke a Substitute.
	damage(mine, theirs, hp, plan = null) {
		if (theirs.substitute) {
			theirs.substitute -= hp;
			if (theirs.substitute > 0) return false;
			Object.assign(theirs, { substitute: 0, behindSubstitute: false });
			return true;
		}
		const taken = Math.min(hp, theirs.left);
		this.hurt(theirs, taken);
		if (plan?.drains) this.heal(mine, Math.max(1, Math.floor(taken / 2)));
		if (plan?.recoil) this.hurt(mine, Math.max(1, Math.floor(taken * plan.recoil)));
		if (plan?.type === 'Fire' && plan.second && theirs.status === 'frz') {
			theirs.status = '';
			refresh(theirs);
		}
		return false;
	}

	hurt(fighter, hp) {
		fighter.left = Math.max(0, fighter.left - hp);
		fighter.hp = fighter.left / fighter.maxhp;
	}

	heal(fighter, hp) {
		if (fighter.left <= 0) return;
		fighter.left = Math.min(fighter.maxhp, fighter.left + hp);
		fighter.hp = fighter.left / fighter.maxhp;
	}
}

module.exports = { Gen1Battle, SWITCH };
