r"""Pairs of an answer and a gold one, kind by kind, with the verdict of mathematics.

`RIGHT` and `WRONG` name kinds; each line of a kind is `answer | gold`. A line is read as it stands, so LaTeX needs no escapes.
"""

RIGHT = {
    "matrices": r"""
\begin{pmatrix}-7\\16\\5\end{pmatrix} | \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\begin{bmatrix} -7 \\ 16 \\ 5 \end{bmatrix} | \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\left(\begin{array}{c} -7 \\ 16 \\ 5 \end{array}\right) | \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\begin{pmatrix} -7 \\[2pt] 16 \\ 5 \\ \end{pmatrix} | \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\begin{pmatrix} -0.2 \\ \frac{2}{3} \end{pmatrix} | \begin{pmatrix} -1/5 \\ 2/3 \end{pmatrix}
\frac{1}{49} \begin{pmatrix} 16 \\ 48 \\ 24 \end{pmatrix} | \begin{pmatrix} 16/49 \\ 48/49 \\ 24/49 \end{pmatrix}
-\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix} | \begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}
\begin{pmatrix} \frac{\sqrt 2}{2} & 0 \\ 0 & 1 \end{pmatrix} | \begin{pmatrix} \frac{1}{\sqrt{2}} & 0 \\ 0 & 1 \end{pmatrix}
""",
    "mixed numbers": r"""
1 1/2 | 3/2
1 1/2 | \frac{3}{2}
7 3/4 | \frac{31}{4}
1\frac{3}{4} | 7/4
1\frac{3}{4} | \frac{7}{4}
1\frac34 | 1.75
-1\frac{1}{2} | -\frac{3}{2}
137 \frac{1}{2} | 137.5
137\frac12 | \frac{275}{2}
2½ | \frac{5}{2}
1\ 1/2 | 1.5
2\frac{x}{3} | \frac{2x}{3}
2\frac{\pi}{3} | \frac{2\pi}{3}
2\cdot\frac{1}{2} | 1
""",
    "names and equations": r"""
x=5 | 5
x = 5 | 5
5 = x | 5
x_1 = 5 | 5
f(x) = x^2 + 1 | x^2+1
f^{-1}(x) = \frac{x}{2} | \frac{x}{2}
\theta = 30^\circ | 30^\circ
5 | x=5
2x-y+3=0 | y = 2x + 3
y-2x=3 | y = 2x + 3
2x + 3 = y | y = 2x + 3
2y = 4x + 6 | y = 2x + 3
y + 2x = 0 | y = -2x
5x - 7y + 11z = -4 | 5x - 7y + 11z + 4 = 0
-10x + 14y - 22z - 8 = 0 | 5x - 7y + 11z + 4 = 0
(x-1)^2 + y^2 = 4 | x^2 - 2x + y^2 = 3
x = \frac{10}{4} = 2.5 | \frac{5}{2}
2 + 3 = 5 | 5
\binom{5}{2} = 10 | 10
""",
    "inequalities": r"""
x \leq 5 | x\le 5
5 \ge x | x \le 5
x>2 | (2,\infty)
2 < x | (2,\infty)
x > 2 | (2,+\infty)
x \ge 2 | [2,\infty)
x ≤ 0 | (-\infty, 0]
-2 \le x \le 7 | x \in [-2,7]
-2 \leq x \leq 7 | [-2,7]
7 \ge x \ge -2 | [-2,7]
3 < x \le 4 | (3,4]
x \in (2,4) | (2,4)
(-\infty,\infty) | \mathbb{R}
x \in \mathbb{R} | (-\infty,\infty)
ℝ | \mathbb{R}
\text{all real numbers} | \mathbb{R}
x < 2 \text{ or } x > 3 | (-\infty, 2) \cup (3, \infty)
(3, \infty) \cup (-\infty, 2) | (-\infty, 2) \cup (3, \infty)
0 < x < 9 or 9 < x < 36 | (0,9) \cup (9,36)
x > 2 \text{ and } x < 5 | (2,5)
y < x + 1 | x - y > -1
2y < 2x + 2 | y < x + 1
x \ne 5 | x \neq 5
\left[ -2, 7 \right] | [-2,7]
""",
    "roots": r"""
\sqrt 2 | \sqrt{2}
\sqrt2 | \sqrt{2}
\sqrt {19} | \sqrt{19}
\sqrt 19 | \sqrt{19}
√5 | \sqrt{5}
√15 | \sqrt{15}
\sqrt\pi | \sqrt{\pi}
\sqrt\frac12 | \frac{\sqrt{2}}{2}
\frac{2}{\sqrt 3} | \frac{2\sqrt{3}}{3}
\sqrt[3]{24} | 2\sqrt[3]{3}
\sqrt[3] 3 | 3^{1/3}
10\sqrt 2 | 10\sqrt{2}
70√2 | 70 \sqrt{2}
\sqrt{50} | 5\sqrt{2}
sqrt(5) | \sqrt{5}
2^{1/2} | \sqrt{2}
\sqrt{3+2\sqrt{2}} | 1+\sqrt2
\sqrt[3]{-8} | -2
\frac{\sqrt{3}}{3} | \frac{1}{\sqrt 3}
11√5 + 11 | 11 \sqrt{5} + 11
""",
    "fractions and decimals": r"""
\frac{a}b | \frac{a}{b}
\frac a b | \frac{a}{b}
a/b | \frac{a}{b}
\frac9{19} | \frac{9}{19}
\frac 59 | \frac{5}{9}
5/9 | \frac 59
6.72 \times 10^{-5} | .0000672
6.72 × 10^{-5} | .0000672
6.72 \cdot 10^{-5} | .0000672
0.\overline{3} | \frac{1}{3}
0.1\overline{6} | 1/6
0.35625 | .35625
\frac{57}{160} | .35625
½ | 0.5
1 ÷ 2 | \frac{1}{2}
\frac{-1}{2} | -\frac{1}{2}
-\frac{-1}{-2} | -\frac{1}{2}
10,\!080 | 10080
10,080 | 10,\!080
1{,}250 | 1250
11111111100 | 11,\! 111,\! 111,\! 100
7! \times 2! | 10,\!080
""",
    "lists": r"""
1+\sqrt{19},1-\sqrt{19} | 1 \pm \sqrt{19}
1-\sqrt{19}, 1+\sqrt{19} | 1 \pm \sqrt{19}
x = 1 \pm \sqrt{19} | 1 \pm \sqrt{19}
1 ± √19 | 1 \pm \sqrt{19}
1 \text{ and } -2 | 1,-2
1 or -2 | 1,-2
1 and/or -2 | 1,-2
-2, 1 | 1,-2
x = 1, x = -2 | 1,-2
x=1 \text{ or } x=-2 | 1,-2
x = 1, -2 | 1,-2
$1$ and $-2$ | 1,-2
\{1, -2\} | 1,-2
3, 5, \text{ and } 7 | 3, 5, 7
3, 5, and 7 | 3, 5, 7
7; 5; 3 | 3, 5, 7
3,5,7 | 3, 5, 7
\{1+\sqrt{5}, 1-\sqrt{5}, -2\} | \{1\pm\sqrt{5},-2\}
-2, 1 \pm \sqrt{5} | \{1\pm\sqrt{5},-2\}
\pm 3 | 3, -3
\pm3 | -3,3
7, 7 | 7, 7
(11,7) \text{ or } (7,11) | (7,11), (11,7)
(7,11),(11,7) | (11,7) \text{ or } (7,11)
""",
    "tuples": r"""
(p,q,r) = (6,31,-1) | (6,31,-1)
p=6, q=31, r=-1 | (6,31,-1)
p = 6, q = 31, \text{ and } r = -1 | (6,31,-1)
x=8, y=-2 | (8,-2)
y=-2, x=8 | (8,-2)
x=8 \text{ and } y=-2 | (8,-2)
(x,y) = (8,-2) | (8,-2)
x=8, y=-2 | (x,y) = (8,-2)
\left( 8, -2 \right) | (8,-2)
(1.5, -13) | \left( \frac{3}{2}, -13 \right)
(3, π/2) | \left( 3, \frac{\pi}{2} \right)
(\frac{6}{2}, \frac\pi2) | \left( 3, \frac{\pi}{2} \right)
\langle 1, 2 \rangle | (1,2)
""",
    "units": r"""
15 cm | 15
15 dollars | 15
15 people | 15
10 cm^2 | 10
15 m/s | 15
15 m | 15
15\text{ m} | 15
15 | 15\mbox{ cm}^2
15 cm^2 | 15\mbox{ cm}^2
15 square centimeters | 15\mbox{ cm}^2
15\,\mathrm{cm}^2 | 15\mbox{ cm}^2
15 \text{ sq cm} | 15\mbox{ cm}^2
864 in^2 | 864 \mbox{ inches}^2
864 \text{ square inches} | 864 \mbox{ inches}^2
5.4 | 5.4 \text{ cents}
5.4 cents | 5.4 \text{ cents}
\frac{270}{7}^\circ | \frac{270}7\text{ degrees}
\frac{270}{7} | \frac{270}7\text{ degrees}
90 degrees | 90^\circ
90 | 90^\circ
90° | 90^{\circ}
\$36 | 36
36 dollars | \$36
$18.90 | \$18.90
18.9 | \$18.90
\$32,348 | \$32,\!348
32348 dollars | \$32,\!348
25\% | 25
25% | 25\%
25 percent | 25\%
30 miles per hour | 30\text{ mph}
2 million | 2{,}000{,}000
2 million | 2000000
2\text{ million dollars} | \$2,\!000,\!000
2 dozen | 24
5\text{ dozen} | 60
60 \text{ eggs} | 5\text{ dozen}
3 hundred | 300
12 \text{ apples} | 12 \text{ apple}
""",
    "algebra": r"""
(b+2)(a+5) | (a+5)(b+2)
ab + 2a + 5b + 10 | (a+5)(b+2)
q(-1) + p | p - q
1 - x + x^2 - x^3 + x^4 - x^5 | -x^5 + x^4 - x^3 + x^2 - x + 1
5r^5 | 5 r^{5}
5r^5 | 5\cdot r^5
\frac{9a}{20} + \frac{11}{20} | \frac{11+9a}{20}
\frac{\cos x}{\sin x} | \cot x
\cot(x) | \cot x
\frac{1}{\tan x} | \cot x
288π | 288 \pi
3 R^2 | 3R^2
\frac{20000}{π} | \frac{20000}{\pi}
6+9i | 9i+6
(1+2i) | 1+2i
2(3-\frac{i}{2}) | 6 - i
\frac{1}{2}(1+i)^2 | i
e^{x}e^{-x} | 1
\ln e^2 | 2
\log_2 8 | 3
\sin^2 x + \cos^2 x | 1
\sin 30^\circ | \frac{1}{2}
|x|^2 | x^2
|-3| | 3
5! | 120
\binom{6}{2} | 15
2k + 2 | 2(k+1)
x^10 | x^{10}
""",
    "words": r"""
Evelyn | \text{Evelyn}
\text{evelyn} | \text{Evelyn}
\textbf{Evelyn} | \text{Evelyn}
east. | \text{east}
\mathrm{even} | \text{even}
an ellipse | \text{ellipse}
C | \text{(C)}
(C) | \text{(C)}
\text{C} | \text{(C)}
\textbf{(C)} | \text{(C)}
""",
    "other": r"""
–3 | -3
−3 | -3
- 3 | -3
∞ | \infty
4343_{6} | 4343_6
1101_{2} | 1101_2
3:2 | 3 : 2
$x+1$ | x+1
\(x+1\) | x+1
\[ x+1 \] | x+1
x+1. | x+1
\displaystyle \frac{1}{2} | \frac12
\mathbf{5} | 5
\text{12} | 12
**12** | 12
\boxed{12} | 12
2\sqrt{3} \approx 3.46 | 2\sqrt{3}
""",
    "usual ways": r"""
\frac{1}{2}, \frac{3}{4} | 0.5, 0.75
x = 5 \text{ cm} | 5
x \in (-\infty, 0) \cup (0,\infty) | (-\infty,0)\cup(0,\infty)
\left\{ 1, 2 \right\} | \{1,2\}
-\frac{1}{2}\sqrt{3} | -\frac{\sqrt{3}}{2}
\frac{-\sqrt{3}}{2} | -\frac{\sqrt{3}}{2}
-\sqrt{3}/2 | -\frac{\sqrt{3}}{2}
\frac{i\sqrt3}{2} | \frac{\sqrt{3}}{2}i
10^6 | 1,000,000
x \neq 2 | (-\infty,2)\cup(2,\infty)
\mathbb{R} \setminus \{2\} | (-\infty,2)\cup(2,\infty)
\mathbb{R} \setminus \{-2, 2\} | (-\infty,-2)\cup(-2,2)\cup(2,\infty)
12\pi \text{ square units} | 12\pi
8 units | 8
1.5 | \$1.50
3.0 | 3
3. | 3
2:30 p.m. | 2:30 \text{ p.m.}
(x+1)/(x-1) | \frac{x+1}{x-1}
x^2 + x^{-2} | x^2+\frac{1}{x^2}
n(n+1)/2 | \frac{n(n+1)}{2}
\frac{n!}{k!(n-k)!} | \binom{n}{k}
\sin\frac{\pi}{6} | \frac{1}{2}
\cos(\pi/3) | \frac{1}{2}
(x^2+1)^{1/2} | \sqrt{x^2+1}
\tan^{-1} x | \arctan x
0.5 \cdot 10^3 | 500
4-x^2 | -x^2+4
\frac{\ln 3}{2} | \frac{1}{2}\ln 3
x - 2y = 6 | y = \frac{1}{2}x - 3
r = 2\cos(\theta) | r = 2\cos\theta
2\mathbf{j} + \mathbf{i} | \mathbf{i} + 2\mathbf{j}
A = \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 1 \\ 2 \end{pmatrix}
A, C | \text{A, C}
yes | \text{Yes}
1.2 \times 10^4 | 12000
\pi r^2 h / 3 | \frac{1}{3}\pi r^2 h
\frac{\pi r^2 h}{3} | \frac13 \pi r^2 h
\frac{\pi}{4} + n\pi | n\pi + \frac{\pi}{4}
x=-1 \text{ or } 3 | -1, 3
\{-1, 3\} | x=-1,3
x^2+x-6=0 | (x-2)(x+3)=0
9.8\,\text{m}/\text{s}^2 | 9.8 \text{ m/s}^2
2\frac{1}{2} \text{ hours} | 2.5
2 1/2 hours | 2.5 \text{ hours}
\sqrt{-4} | 2i
\text{no solution} | \text{No solution}
\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
(2, 3) \text{ and } (4, 5) | (2,3),(4,5)
\left(\frac{1}{2}, \frac{3}{4}\right) | (0.5,0.75)
-1 < x < 1 | (-1,1)
|x| < 1 | |x|<1
\frac{2x+1}{3} | \frac{1}{3}(2x+1)
x=1,y=2,z=3 | (1,2,3)
x = 1 \\ y = 2 | (1,2)
$(1, 2)$ | (1,2)
\textbf{12} | 12
12 \mbox{ cm} | 12 \text{ cm}
5 \times 10^{-3} | 0.005
\log_{10} 100 | 2
\frac{\log 8}{\log 2} | 3
\text{12 cm} | 12
\text{ Evelyn } | \text{Evelyn}
3{,}000 | 3000
1\,000\,000 | 1000000
45^{\circ} | 45^\circ
45\degree | 45^\circ
45^o | 45^\circ
\frac{\pi}{4} | 45^\circ
\frac{1}{\sqrt{2}} | \frac{\sqrt{2}}{2}
x^{2}y | yx^2
6x^2 + 5x - 4 | (2x-1)(3x+4)
\sqrt[4]{16} | 2
\cos^2\theta - \sin^2\theta | \cos 2\theta
-(x-3) | 3-x
2^{3} \cdot 3^{2} | 72
(3+4)(2) | 14
4! \cdot 3 | 72
\dfrac{a^2b}{c} | \frac{ba^2}{c}
a^{m+n} | a^m a^n
k=3 | 3
6\text{ ways} | 6
36\,\text{in}^2 | 36
0.75 | 75\%
3/4 | 75\%
24\pi\text{ cm}^3 | 24\pi
(-\infty, \frac{1}{2}] | (-\infty,0.5]
x \leq \frac{1}{2} | (-\infty,0.5]
[1,2] \cup [3,4] | 1 \le x \le 2 \text{ or } 3 \le x \le 4
1.\overline{6} | \frac{5}{3}
0.\overline{142857} | \frac17
16:25 | 16:25
2, 3, 5, \dots | 2,3,5,\ldots
\frac{3}{5} + \frac{4}{5}i | \frac{3+4i}{5}
e^{i\pi/3} | \frac{1}{2} + \frac{\sqrt3}{2} i
\operatorname{cis} 30 | \operatorname{cis} 30
5 cm | 5\text{cm}
\mathrm{5} | 5
\text{one} | one
x=2, x=3 | \{2,3\}
\{(1,2),(3,4)\} | (3,4), (1,2)
(1,2);(3,4) | (1,2),(3,4)
a = 1, b = 2 | (a,b) = (1,2)
y = 3 | y=3
y=x^2 | y = x^2
2 \pm \sqrt3 | 2+\sqrt{3}, 2-\sqrt{3}
\frac{-1 \pm \sqrt{5}}{2} | \frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2}
\frac{-1 \pm i\sqrt{3}}{2} | -\frac12 \pm \frac{\sqrt3}{2} i
\pm 1, \pm 2 | 1,-1,2,-2
7^{\text{th}} | 7^{\text{th}}
6th | 6th
20\text{ cm/s} | 20
\frac{1}{4}\text{ mile} | 1/4
5 \; \text{units} | 5
4\sqrt{2}\ \text{cm} | 4\sqrt2
""",
    "further ways": r"""
x_1 = 3, x_2 = -2 | -2, 3
€5 | 5
5 euros | €5
\frac{100!}{98!} | 9900
999! | 999 \cdot 998!
x_1 = 3 | 3
x^{\frac{2}{3}} | \sqrt[3]{x^2}
\sin{x}\cos{x} | \frac{1}{2}\sin{(2x)}
\log_{5}{25} | 2
a_n = 2n+1 | 2n+1
y - 3 = 2(x - 1) | y = 2x+1
4x^2+9y^2=36 | \frac{x^2}{9} + \frac{y^2}{4} = 1
2x+3y-12=0 | y=-\frac{2}{3}x+4
(-\infty,-14)\cup(-3,\infty) | x<-14 \text{ or } x>-3
10\% | 0.1
1 + \frac{1}{2} | \frac32
6\,\text{m/s} | 6
\left(-\infty, \frac{1}{2}\right) | x < \frac12
2^{78} | 302231454903657293676544
\tan{45^\circ} | 1
\cos 60^\circ | 0.5
A = 5 \text{ cm}^2 | 5
\text{A} | (A)
1\frac{1}{2} \text{ hours} | \frac{3}{2}
\frac{1}{1-x} | \frac{-1}{x-1}
""",
    "letters in text": r"""
3+2\mathrm{i} | 3+2i
\mathrm{e}^{x} | e^x
\operatorname{sin} x | \sin x
5\text{x} | 5x
20\text{ N} | 20
5 times | 5
""",
    "as models write": r"""
x = 3 \text{ and } y = -2 | (3,-2)
(x, y) = \left(3, -2\right) | (3,-2)
\left(x, y\right) = (3,-2) | (3,-2)
x=\pm 3 | 3, -3
-3 \text{ and } 3 | \pm 3
3 \text{ or } -3 | \pm 3
p = 6,\ q = 31,\ r = -1 | (6,31,-1)
\boxed{(6,31,-1)} | (6,31,-1)
p=6,q=31,r=-1 | (p,q,r)=(6,31,-1)
(11,7), (7,11) | (11,7) \text{ or } (7,11)
(7,11) and (11,7) | (11,7) \text{ or } (7,11)
x\in[-2,7] | -2\leq x\leq 7
\{x \mid -2 \le x \le 7\} | [-2,7]
\{ x \in \mathbb{R} : x > 2 \} | (2,\infty)
\{x : x \neq 0\} | (-\infty,0)\cup(0,\infty)
x \neq 0 | x \ne 0
\text{all real numbers} | (-\infty,\infty)
(-\infty,+\infty) | \mathbb{R}
-\infty < x < \infty | \mathbb{R}
x\ge2 | [2,\infty)
\sqrt{\frac12} | \sqrt\frac12
\frac{\sqrt 2}{\sqrt 3} | \frac{\sqrt6}{3}
\sqrt[3]{81} | 3\sqrt[3]{3}
5\sqrt[4]{2} | \sqrt[4]{1250}
0.333... | 0.333...
0.\overline{12} | \frac{4}{33}
0.\bar{3} | \frac13
0.\dot{3} | \frac13
4.5\times10^{-3} | 0.0045
4.5 \times 10^3 | 4500
3.5 million | 3500000
3.5\times 10^6 | 3.5 \text{ million}
10 square cm | 10
15 meters per second | 15
15 miles | 15 \text{ mi}
7 minutes | 7
7 min | 7 \text{ minutes}
\$7 | 7 \text{ dollars}
7 cents | 7
36 inches | 36 \text{ in}
1,234,567 | 1234567
\frac{1,000}{3} | \frac{1000}{3}
x^2 - 2x + 1 = 0 | (x-1)^2 = 0
0 = 2x - y + 3 | y = 2x+3
y = 2x + 3 | 2x-y+3=0
4x - 2y + 6 = 0 | y = 2x+3
\begin{pmatrix} 1 \\ 23 \end{pmatrix} | \begin{pmatrix} 1\\23 \end{pmatrix}
\begin{pmatrix} 1 \\\\ 23 \end{pmatrix} | \begin{pmatrix} 1\\23 \end{pmatrix}
\left[\begin{matrix} 1 \\ 23 \end{matrix}\right] | \begin{pmatrix} 1\\23 \end{pmatrix}
\begin{Bmatrix} 1 \end{Bmatrix} | \begin{Bmatrix} 1 \end{Bmatrix}
\text{Evelyn.} | \text{Evelyn}
\text{(C) } | C
(C). | \text{(C)}
2^{-3} | \frac18
3^{\frac12} | \sqrt3
\tfrac{7}{4} | 1\tfrac34
1 \frac{3}{4} | \frac{7}{4}
1 + \frac{3}{4} | 1\frac34
-7 3/4 | -\frac{31}{4}
-7\frac{3}{4} | -7.75
- \frac{31}{4} | -7\frac34
30{}^\circ | 30^\circ
30 ^\circ | 30^\circ
12, 15, and 18 | 12,15,18
12; 15 | 12,15
1 \quad\text{and}\quad 2 | 1,2
5,\,-5 | -5,5
x=5\text{ or }x=-5 | \pm5
""",
}

WRONG = {
    "matrices": r"""
\begin{pmatrix} 12 \\ 3 \end{pmatrix} | \begin{pmatrix} 1 \\ 23 \end{pmatrix}
\begin{pmatrix} 23 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
\begin{pmatrix} 2 & 3 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
\begin{pmatrix} 3 \\ 2 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
\begin{pmatrix} 2 \\ 3 \\ 0 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
2 \begin{pmatrix} 2 \\ 3 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
5 | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
""",
    "digits apart": r"""
1 1/2 | 11/2
1 1/2 | \frac{1}{2}
7 3/4 | 73/4
7 3/4 | \frac{21}{4}
1\frac{1}{2} | \frac{1}{2}
2\frac{1}{2} | 1
1 2 | 12
1 \quad 2 | 12
1\ 2 | 12
1\;2 | 12
5 5 | 55
1, 250 | 1250
1 250 | 1250
1 2 | 2
1 2 | 3
5 \\ 5 | 55
\frac{1}{2}1 | \frac{1}{2}
\pi1 | \pi
x2 | 2x
12 3 | 1 23
1,25 | 125
1,2500 | 12500
3\,00 | 300
""",
    "names and relations": r"""
x<=5 | 5
x>=5 | 5
x \le 5 | 5
x!=5 | 5
x \neq 5 | 5
<=5 | 5
<5 | 5
2x=5 | 5
3!=5 | 5
-x=5 | 5
x-5 | 5
-(x=5) | 5
xy=5 | 5
x+y=5 | 5
x^2=5 | 5
2x=10 | 5
x>=5 | x<=5
x<5 | x \le 5
x>5 | x<5
y=5 | x=5
x \approx 5 | 5
5=6 | 5
5=6 | 6
2+2=5 | 5
x=5=6 | 6
x=5, y=6 | 5
2x-y+3=1 | y = 2x + 3
2x+y+3=0 | y = 2x + 3
y = 3x + 2 | y = 2x + 3
y > 2x + 3 | y = 2x + 3
0 = 0 | y = 2x + 3
y = -2x | y = 2x
x^2+y^2=2 | x^2+y^2=4
y > x + 1 | y < x + 1
-y < -x - 1 | y < x + 1
5x - 7y + 11z - 4 = 0 | 5x - 7y + 11z + 4 = 0
""",
    "intervals": r"""
x<2 | (2,\infty)
x \ge 2 | (2,\infty)
(-\infty,2) | (2,\infty)
x>-2 | (2,\infty)
-2 < x \le 7 | x \in [-2,7]
-2 \le x \le 8 | x \in [-2,7]
-2 \le y \le 7 | x \in [-2,7]
-2, 7 | x \in [-2,7]
(3,4) | (3,4]
[3,4] | (3,4]
(4,3] | (3,4]
(0,\infty) | \mathbb{R}
x < 2 \text{ and } x > 3 | (-\infty, 2) \cup (3, \infty)
(-\infty, 2) | (-\infty, 2) \cup (3, \infty)
(-\infty, 2), (3, \infty) | (-\infty, 2) \cup (3, \infty)
(2,3) | (-\infty, 2) \cup (3, \infty)
(-\infty, 2] \cup (3, \infty) | (-\infty, 2) \cup (3, \infty)
(0,36) | (0,9) \cup (9,36)
2 | (2,\infty)
""",
    "roots": r"""
\sqrt 3 | \sqrt{2}
\sqrt{1}9 | \sqrt{19}
\sqrt{2}0 | \sqrt{20}
√5 | 5
-\sqrt 2 | \sqrt{2}
\sqrt[3]{2} | \sqrt{2}
\sqrt{2}^2 | \sqrt{2}
\sqrt[3]{24} | 2\sqrt{3}
\frac{2}{\sqrt 3} | \frac{\sqrt{3}}{3}
1.414214 | \sqrt{2}
1.41421356237309504880 | \sqrt{2}
\sqrt{2} + 10^{-200} | \sqrt{2}
""",
    "numbers": r"""
10^{-17} | 10^{-18}
10^{-17} | 0
0.00000000000000000001 | 0
1 + 10^{-20} | 1
0.333333 | \frac{1}{3}
0.33333333333333333333 | \frac{1}{3}
0.\overline{3} | 0.3
6.72 \times 10^{5} | .0000672
6.72 | .0000672
3.14 | \pi
3.14159265358979 | \pi
5/9 | \frac{9}{5}
\frac{1}{2}x | \frac{1}{2}
-3 | 3
–3 | 3
03:2 | 3
3:2 | 2:3
1/2x | \frac{1}{2x}
2^{3^2} | 8
""",
    "lists": r"""
1+\sqrt{19} | 1 \pm \sqrt{19}
1-\sqrt{19} | 1 \pm \sqrt{19}
1+\sqrt{19}, 1+\sqrt{19} | 1 \pm \sqrt{19}
1 + \sqrt{19}, 1 - \sqrt{19}, 1 | 1 \pm \sqrt{19}
1,2 | 1,-2
1 | 1,-2
1,-2,-2 | 1,-2
12 | 1,2
(1,-2) | 1,-2
1,-2 | (1,-2)
\{1,-2\} | (1,-2)
3,5 | 3, 5, 7
3,5,7,9 | 3, 5, 7
3,57 | 3, 5, 7
7, 7 | 7
7 | 7, 7
5 or 6 | 5
5 and 6 | 6
5 or 5 | 5
\pm 3 | 3
3 | \pm 3
x=1, x=2 | 1,-2
(11,7) | (11,7) \text{ or } (7,11)
(7,11) \text{ or } (7,11) | (11,7) \text{ or } (7,11)
\{1\pm\sqrt{5}\} | \{1\pm\sqrt{5},-2\}
\{1\pm\sqrt{5},2\} | \{1\pm\sqrt{5},-2\}
""",
    "tuples": r"""
(-2,8) | (8,-2)
(8,2) | (8,-2)
8,-2 | (8,-2)
8 | (8,-2)
(8,-2,0) | (8,-2)
[8,-2] | (8,-2)
(8,-2] | (8,-2)
x=-2, y=8 | (8,-2)
x=8 | (8,-2)
(x,y)=(-2,8) | (8,-2)
(y,x)=(8,-2) | (x,y)=(8,-2)
x=8, x=-2 | (8,-2)
(82) | (8,2)
(p,q,r)=(31,6,-1) | (6,31,-1)
p=6, q=31 | (6,31,-1)
p=31, q=6, r=-1 | (6,31,-1)
(\pi/2, 3) | (3, \frac{\pi}{2})
""",
    "units": r"""
15 cm | 15 \text{ m}
15 cm^3 | 15\mbox{ cm}^2
15 cm | 15\mbox{ cm}^2
15 inches | 15 \text{ feet}
15 m/s | 15 \text{ km/h}
16 cm | 15
15 cents | \$15
15 \text{ cents} | 15 \text{ dollars}
5 million | 5
2 million | 2
2 thousand | 2
2 dozen | 2
2 hundred | 2
5\text{ dozen} | 5
5k | 5
5k | 5000k
18x | 18
A18 | 18
>18 | 18
< 18 | 18
more than 18 | 18
less than 18 | 18
at least 18 | 18
\text{more than } 18 | 18
18 \text{ or more} | 18
18 or less | 18
\text{not } 18 | 18
18\text{ and a half} | 18
half of 18 | 18
90 \text{ radians} | 90^\circ
0.25\% | 25\%
2.5 | 25\%
3 \text{ hours } 20 \text{ minutes} | 3
15 xyz | 15
""",
    "algebra": r"""
x+2 | x+1
x | |x|
\sqrt{x^2} | x
(a+5)(b-2) | (a+5)(b+2)
a+5(b+2) | (a+5)(b+2)
q-p | p-q
5r^4 | 5r^5
5R^5 | 5r^5
r^5 | 5r^5
3r^2 | 3R^2
\tan x | \cot x
\cot y | \cot x
\cot 2x | \cot x
\cos^2 x | \cot x
288 | 288\pi
6-9i | 6+9i
-6+9i | 6+9i
6+9 | 6+9i
x^5 + x^4 + x^3 + x^2 + x - 1 | x^5 - x^4 + x^3 - x^2 + x - 1
2k-2 | 2k+2
2(k+2) | 2k+2
\log 8 | \ln 8
e^2 | \ln 2
\frac{11+9a}{21} | \frac{11+9a}{20}
x^{10} | x^1 0
""",
    "words": r"""
nevely | \text{Evelyn}
seat | \text{east}
west | \text{east}
\text{odd} | \text{even}
-(\text{east}) | \text{east}
not even | \text{even}
B | \text{(C)}
(B) | \text{(C)}
C, D | \text{(C)}
\text{hyperbola} | \text{ellipse}
on | \text{no}
5 | \text{five apples}
""",
    "other": r"""
4343 | 4343_6
4343_7 | 4343_6
4344_6 | 4343_6
52_81 | 52_8
-\infty | \infty
\infty | 5
{5 | 5
5} | 5
\frac{5}{} | 5
\sum_{i=1}^{5} 1 | 5
\text{5 or 6} | 5
""",
    "near misses": r"""
x=1,y=3 | (1,2)
2.30 | 2:30
\frac{1}{2}, \frac{3}{4} | (0.5,0.75)
x = 5 \text{ cm} | 5 \text{ m}
(0,1) | [0,1)
\text{A} | \text{A, C}
\text{Yes} | \text{No}
45^\circ | 46^\circ
45 | \frac{\pi}{4}
n! | n
a_1 | a_2
a_1 | a
x_{12} | x_1
x+1=0 | x=1
0x=0 | x=1
x=x | x=1
x^2=1 | x=1
2,3 | 2,3,5
5\% | 0.5
1.5 | 1.05
\emptyset | 0
\{\} | 0
\{0\} | \emptyset
\mathbb{R} | \mathbb{Z}
\mathbb{Z} | \mathbb{R}
(1,2),(3,4) | (1,2,3,4)
((1,2),(3,4)) | (1,2),(3,4)
1,2,3,4 | (1,2),(3,4)
(12) | (1,2)
16 | 1,6
1.6 | 1,6
3 \cdot 4 | 34
3*4 | 34
34 | 3 4
3^4 | 34
2x | 2
2y+3x | 2x+3y
i | 1
-i | i
e | 2.718281828
\sqrt{2} | 1.41421356237309504880168872420969807856967187537694
\frac{1}{2} \text{ hour} | \frac{1}{2} \text{ minute}
\text{east} | \text{north}
100 | 10^
10^{} | 10
10\_ | 10
\frac{10}{1}0 | 100
5 \text{ or } 6 | 5, 7
1 \le x \le 2 | [1,3]
x>1 | x \ge 1
x>1 | y>1
y=x | y=-x
y>x | y=x
2y>2x | y<x
x=3 | y=3
3 | x \ne 3
3 | x > 3
A | B
a | A
aB | AB
\alpha | \beta
\text{5 apples} | 6
6 | \text{6 or 7}
5.4 \text{ dollars} | 5.4 \text{ cents}
18 \text{ thousand} | 18
half | 1/2 x
1/3 | 0.33
0.67 | \frac23
2k+1 | 2k-1
10101 | 10101_2
21 | 10101_2
1,2,3,... | 1,2,3
f(2) | 2
f(x)=5 | f(y) = 6
\sin 30 | \frac12
\sin x | \sin y
x\sin y | \sin xy
\sin xy | y \sin x
\sqrt{x}y | \sqrt{xy}
\frac{x}{2y} | \frac{x}{2}y
x^{2y} | x^2 y
x^2y | x^{2y}
\text{January 3} | \text{January 13}
5 - 3 | 5, -3
5 -3 | 5, -3
-5, 3 | 5, -3
""",
    "further misses": r"""
x=3 \text{ or } y=2 | (3,2)
x_1 = 3, x_2 = 2 | -2, 3
x < 2 \text{ or } y > 3 | (-\infty,2)\cup(3,\infty)
\pounds5 | 6
€5 | \$5
\frac{1}{1-x} | \frac{1}{x-1}
\sin 60^\circ | 0.5
998! | 999!
302231454903657293676545 | 2^{78}
302231454903657293676544 | 2^{77}
""",
    "letters in text": r"""
3+2\mathrm{i} | 5
5\text{x} | 5
2\mathrm{e} | 2
""",
    "as models miss": r"""
x=-2 \text{ and } y = 3 | (3,-2)
1\frac{3}{4} | \frac{3}{4}
1\frac{3}{4} | \frac{13}{4}
-7 3/4 | -\frac{25}{4}
7\frac{3}{4} | 7\cdot\frac34
3.5 million | 3.5
3.5 thousand | 3500000
2 dozen | 12
15 m/s | 15 \text{ m/s}^2
15 m | 15 \text{ s}
36 inches | 36 \text{ feet}
\frac{1,000}{3} | \frac{1}{3}
0.\overline{12} | 0.12
0.\overline{12} | 0.1\overline{2}
x\ge2 | (2,\infty)
-2<x<7 | [-2,7]
x \neq 0 | x = 0
x \neq 0 | 0
\{x : x > 2\} | (-\infty,2)
(11,7) | (11,7), (7,11)
x=\pm3 | 3
4x - 2y - 6 = 0 | y = 2x+3
y = 2x | y = 2x+3
y < 2x+3 | y = 2x+3
y \ge 2x+3 | y > 2x+3
\begin{pmatrix} 1 23 \end{pmatrix} | \begin{pmatrix} 1\\23 \end{pmatrix}
\begin{pmatrix} 123 \end{pmatrix} | \begin{pmatrix} 1\\23 \end{pmatrix}
(1,23) | \begin{pmatrix} 12\\3 \end{pmatrix}
\begin{pmatrix} 1 & 2 & 3 \end{pmatrix} | \begin{pmatrix} 1 \\ 2 \\ 3 \end{pmatrix}
10^{-17} + 1 | 1
1.0000000000000000000001 | 1
2.0000001 | 2
10^{-300} | 0
-0.00001 | 0
\sqrt[3]{2} | \sqrt[2]{3}
\sqrt{2}3 | \sqrt{23}
\sqrt 23 | \sqrt{2}\cdot 3
3x | x^3
1 \text{ hour } 30 \text{ minutes} | 1 \text{ hour}
twelve | 12 \text{ apples}
12 \text{ or so} | 12
\text{between } 12 \text{ and } 13 | 12
\approx 12 | 12
12+ | 12
12- | 12
12! | 12
12' | 12
12: | 12
""",
}


def lines(table):
    """(kind, answer, gold) of each line."""
    for kind, text in table.items():
        for line in text.strip("\n").split("\n"):
            answer, gold = line.rsplit(" | ", 1)
            yield kind, answer, gold


NUMBERS = r"""
2 million | 2000000
$2.5 million dollars | 2500000
2 dozen eggs | 24
2 dozen | 24
3 hundred | 300
5k | 5000
$5k | 5000
18 more apples | 18
18 apples left over | 18
18cm | 18
18 cm^2 | 18
18 km/h | 18
18 m/s^2 | 18
18 / 2 | none
18/x | none
18^2 | none
$ 18 | 18
18 (eggs) | 18
18-dollar | 18
18 USD | 18
18 $ | 18
-$18 | -18
$-18 | -18
–3 | -3
−3 | -3
\textbf{18} | 18
\text{18 eggs} | 18
Total = 18 | 18
Total cost = $18 | 18
x_1 = 18 | 18
f(x) = 18 | 18
6 * 3 = 18 | 18
$3 + $15 = $18 | 18
6 eggs * 3 = 18 eggs | 18
The answer is 18 | 18
The most that she can buy is 18 | 18
25% | 25
18 dollars per hour | 18
2x = 18 | none
-x = 18 | none
xy = 18 | none
x + 1 = 18 | none
x/2 = 18 | none
3 + 16 = 18 | none
17 = 18 | none
18 = x | none
x <= 18 | none
x >= 18 | none
x != 18 | none
x ≤ 18 | none
x \leq 18 | none
>18 | none
< 18 | none
more than 18 | none
less than 18 | none
fewer than 18 apples | none
at least 18 | none
at most $18 | none
over 18 | none
almost 18 | none
about 18 | none
half of 18 | none
twice 18 | none
18 or more | none
18 and a half | none
18 and a quarter | none
18 apples and oranges | 18
18 times | 18
18 more than Tom | 18
18 squared | none
not 18 | none
18x | none
18n | none
18M | none
= 18 | 18
\frac{36}{2} = 18 | 18
\frac{36}{3} = 18 | none
Profit = $30 - $12 = $18 | 18
Profit = 30 - 13 = 18 | none
A18 | none
18√2 | none
18π | none
√18 | none
18 1/2 | none
18½ | none
18:30 | none
18 and twenty cents | none
"""
