"""What things are called in captions: words for the same thing, kinds of a thing, compounds that mislead.

Only what people write in captions. `matching.py` knows plurals, diminutives and compounds, so these need not be here.
"""

_SAME = {
    "en": """
person, human, human being
child, kid
airplane, plane, aeroplane, aircraft, jet, airliner
motorcycle, motorbike
bicycle, bike, cycle
car, automobile
boat, ship
couch, sofa
tv, television, tv monitor, television set, tvmonitor
cell phone, cellphone, mobile phone, phone, smartphone, mobile, telephone, iphone
refrigerator, fridge
donut, doughnut
hot dog, hotdog
hair drier, hair dryer, hairdryer, blow dryer
laptop, notebook computer, laptop computer, macbook
remote, remote control
dining table, table, desk
potted plant, pottedplant, houseplant, plant
tennis racket, racquet
suitcase, luggage
handbag, purse
backpack, rucksack, knapsack, schoolbag
teddy bear, teddy, stuffed bear, plush bear
traffic light, traffic signal, stoplight, stop light, traffic lights
fire hydrant, hydrant
microwave, microwave oven
sports ball, ball
pizza, pizzas
tie, necktie, bow tie, bowtie
skis, ski
cup, mug
wine glass, wineglass, goblet
clock, watch
cow, cattle
rabbit, bunny
mountain, mount
road, street
picture, photo, photograph
""",
    "zh": """
人, 人物, 人们, 人群, 人类
孩子, 小孩, 儿童, 孩童, 小朋友, 娃娃
汽车, 车, 轿车, 小车, 小汽车, 车子, 车辆
飞机, 客机, 战斗机, 直升机
自行车, 单车, 脚踏车
摩托车, 摩托, 机车, 电动车
公交车, 公共汽车, 巴士, 大巴, 公车
火车, 列车, 高铁, 动车
卡车, 货车
船, 船只, 轮船, 舟, 小艇, 艇
红绿灯, 交通灯, 交通信号灯, 信号灯
停车标志, 停止标志, 停车牌
消防栓, 消火栓
长椅, 长凳
狗, 犬, 小狗, 狗狗
猫, 猫咪, 小猫, 喵星人
马, 骏马
牛, 奶牛
大象, 象
背包, 双肩包, 书包
雨伞, 伞
手提包, 手袋, 挎包, 提包, 包包
行李箱, 手提箱, 旅行箱, 皮箱, 行李
滑雪板, 雪板
单板滑雪板, 滑雪板
棒球棒, 球棒, 棒球棍
网球拍, 球拍
杯子, 水杯, 茶杯, 马克杯
酒杯, 高脚杯, 红酒杯
叉子, 餐叉
刀, 刀子, 餐刀, 小刀
勺子, 汤匙, 勺, 匙, 调羹
橙子, 橘子, 桔子, 香橙
西兰花, 花椰菜, 绿花菜
胡萝卜, 红萝卜
披萨, 比萨, 披萨饼, 比萨饼
甜甜圈, 多纳圈
沙发, 长沙发
盆栽, 盆景, 植物, 绿植
餐桌, 桌子, 饭桌, 书桌, 桌
马桶, 坐便器, 厕所
电视, 电视机
笔记本电脑, 笔记本, 电脑, 手提电脑
遥控器, 遥控
手机, 电话, 智能手机
微波炉
烤箱, 烘箱
烤面包机, 多士炉, 吐司机
水槽, 洗手池, 水池, 洗脸盆
冰箱, 电冰箱, 雪柜
书, 书本, 书籍, 图书
时钟, 钟, 钟表, 闹钟, 挂钟, 表, 手表
泰迪熊, 玩具熊, 毛绒熊
吹风机, 电吹风
领带, 领结
照片, 相片, 图片
道路, 路, 马路, 街道
""",
}

_KINDS = {
    "en": """
person: man, woman, boy, girl, child, kid, baby, toddler, infant, lady, gentleman, guy, people, crowd, player, rider,
  skier, surfer, skateboarder, snowboarder, cyclist, driver, pedestrian, passenger, tourist, chef, cook, waiter,
  waitress, worker, farmer, fisherman, doctor, nurse, teacher, student, soldier, policeman, police officer, officer,
  firefighter, fireman, pilot, astronaut, scientist, artist, painter, musician, singer, dancer, actor, actress, model,
  bride, groom, couple, family, mother, father, mom, dad, son, daughter, brother, sister, grandma, grandpa,
  grandmother, grandfather, friend, teenager, adult, elder, king, queen, prince, princess, knight, samurai, warrior,
  wizard, witch, santa, businessman, businesswoman, athlete, batter, pitcher, catcher, umpire, goalkeeper, performer,
  clown, monk, nun, priest, cowboy, sailor, pirate, someone, somebody
dog: puppy, pup, hound, corgi, poodle, bulldog, terrier, labrador, retriever, husky, dalmatian, chihuahua, shiba,
  shepherd dog, beagle, pug, spaniel, dachshund
cat: kitten, kitty, tabby, siamese
horse: pony, foal, mare, stallion, mustang
cow: bull, calf, ox, bison, buffalo
sheep: lamb, ram, ewe, goat
bird: parrot, owl, eagle, duck, swan, goose, chicken, rooster, hen, penguin, pigeon, dove, sparrow, seagull, gull,
  crow, raven, peacock, flamingo, hummingbird, robin, hawk, falcon, pelican, stork, crane, ostrich, toucan,
  woodpecker, turkey
bear: panda, grizzly, cub
car: sedan, taxi, cab, suv, jeep, convertible, limousine, coupe, hatchback, minivan, van, vehicle
truck: lorry, pickup, van, fire engine
bus: coach, minibus
train: locomotive, tram, subway, metro, railcar
boat: sailboat, canoe, kayak, yacht, ferry, vessel, raft, gondola, rowboat
airplane: biplane, helicopter, fighter, glider
motorcycle: scooter, moped
sports ball: football, basketball, baseball, volleyball, soccer ball, tennis ball
chair: armchair, stool, seat
potted plant: cactus, bonsai, succulent
cake: cupcake, cheesecake
flower: rose, tulip, sunflower, daisy, lily, orchid, lotus
tree: palm, pine, oak, willow, maple
bag: backpack, handbag, purse
""",
    "zh": """
人: 男人, 女人, 男子, 女子, 男孩, 女孩, 男生, 女生, 男士, 女士, 孩子, 小孩, 儿童, 小朋友, 少年, 少女, 老人, 婴儿,
  宝宝, 姑娘, 小伙, 小伙子, 青年, 行人, 乘客, 游客, 路人, 运动员, 球员, 选手, 骑手, 司机, 士兵, 军人, 战士, 武士,
  骑士, 警察, 消防员, 学生, 老师, 教师, 医生, 护士, 厨师, 工人, 农民, 渔夫, 科学家, 艺术家, 画家, 音乐家, 宇航员,
  飞行员, 妈妈, 爸爸, 母亲, 父亲, 爷爷, 奶奶, 哥哥, 弟弟, 姐姐, 妹妹, 朋友, 先生, 情侣, 夫妻, 家人, 一家人, 美女,
  帅哥, 模特, 公主, 王子, 国王, 女王, 皇帝, 新娘, 新郎, 舞者, 歌手, 演员, 歌迷, 球迷, 观众, 巫师, 女巫, 仙女,
  圣诞老人, 海盗, 水手, 牛仔, 僧人, 和尚, 侠客, 诗人
狗: 柯基, 哈士奇, 金毛, 拉布拉多, 泰迪, 柴犬, 贵宾犬, 斗牛犬, 吉娃娃, 萨摩耶, 博美
猫: 布偶, 橘猫, 狸花
鸟: 鹦鹉, 猫头鹰, 老鹰, 鹰, 鸭子, 天鹅, 鹅, 鸡, 公鸡, 母鸡, 小鸡, 企鹅, 鸽子, 麻雀, 海鸥, 乌鸦, 孔雀, 火烈鸟, 燕子,
  喜鹊, 鹤, 仙鹤, 丹顶鹤, 雀
熊: 熊猫, 棕熊, 北极熊
羊: 绵羊, 山羊, 羔羊
汽车: 出租车, 的士, 跑车, 越野车, 吉普车, 面包车, 赛车, 敞篷车, 老爷车, 警车, 房车
卡车: 消防车, 皮卡
船: 帆船, 渔船, 游艇, 独木舟, 皮划艇, 渡轮, 游轮
火车: 地铁, 电车, 有轨电车, 火车头, 蒸汽机车
球: 足球, 篮球, 网球, 排球, 棒球, 橄榄球, 皮球
椅子: 凳子, 座椅, 扶手椅
盆栽: 仙人掌, 多肉
蛋糕: 纸杯蛋糕
手提包: 钱包
花: 玫瑰, 郁金香, 向日葵, 菊花, 百合, 荷花, 牡丹, 梅花, 樱花
树: 松树, 柳树, 棕榈
""",
}

_OPAQUE = {
    "en": """
guinea pig, hot dog, hotdog, prairie dog, sea horse, sea lion, stop sign, traffic light
""",
    "zh": """
三轮车, 世界杯, 交叉, 交通灯, 代表, 仪表, 企鹅, 信号灯, 停车收费表, 全球, 公交车, 公车, 冲浪板, 分钟, 列车, 剪刀,
动车, 单车, 卡车, 印象, 吹风机, 图表, 圣诞树, 地球, 地表, 壁虎, 外表, 天牛, 天狗, 太空船, 奖杯, 婴儿车, 宇宙飞船,
对象, 形象, 思路, 手推车, 手机, 抽象, 推车, 摩托车, 收音机, 文书, 斑马, 星球, 景象, 月球, 木马, 机器人, 机床, 机车,
松鼠, 棉花, 毛绒熊, 气球, 气象, 水车, 汉堡包, 河床, 河马, 泪花, 泰迪熊, 洗衣机, 浪花, 海牛, 海狗, 海狮, 海豹, 海马,
消防车, 温床, 滑板, 滑板车, 滑雪板, 潜艇, 火花, 火车, 火鸡, 点钟, 烟花, 烤面包机, 热狗, 熊猫, 爆米花, 牙床, 犀牛,
猫头鹰, 玩具熊, 环球, 现象, 电动车, 电视机, 电路, 电车, 直升机, 相机, 秒钟, 秘书, 稻草人, 窗花, 章鱼, 红绿灯, 缆车,
罗马, 耳机, 背包, 脚踏车, 自行车, 花瓶, 蒸汽机, 蜗牛, 袋鼠, 西兰花, 证书, 货车, 购物车, 钥匙, 钱包, 铁路, 长颈鹿,
降落伞, 雪人, 雪板, 雪球, 雪花, 面包, 风车, 飞机, 飞船, 马车, 鳄鱼, 飞盘, 键盘, 光盘, 棋盘, 硬盘, 方向盘,
甲板, 老板, 地板, 天花板, 黑板
""",
}

_TRANSPARENT = {
    "en": """
art, artwork, closeup, drawing, emoji, face, figure, figurine, head, icon, illustration, image, logo, painting, photo,
photograph, picture, portrait, poster, sculpture, silhouette, sketch, statue, sticker, toy
""",
    "zh": """
们, 剪影, 国画, 图, 图像, 图标, 图片, 头, 头像, 头部, 形象, 插画, 水彩画, 油画, 海报, 照片, 特写, 玩具, 画, 画像,
画面, 相片, 素描, 群, 肖像, 肖像画, 脸, 表情, 雕像, 雕塑, 面孔
""",
}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.replace("\n", " ").split(",") if word.strip()]


def _entries(text: str) -> list[str]:
    """The lines of a text, those that are indented joined to the one before."""
    return text.strip().replace("\n ", " ").splitlines()


SAME: dict[str, list[list[str]]] = {
    language: [_words(line) for line in _entries(text)] for language, text in _SAME.items()
}
"""Language -> groups of words for the same thing; each names every other's."""

KINDS: dict[str, dict[str, list[str]]] = {
    language: {word: _words(kinds) for word, _, kinds in (line.partition(":") for line in _entries(text))}
    for language, text in _KINDS.items()
}
"""Language -> word -> narrower words. A caption that says the narrower word names the thing, and so does one that says
the wider word of a thing whose name is narrow; two narrower words (man, woman) do not name each other."""

OPAQUE: dict[str, frozenset[str]] = {language: frozenset(_words(text)) for language, text in _OPAQUE.items()}
"""Compounds that are not a kind of what their last part says: a hot dog is no dog, a vase (花瓶) no bottle (瓶)."""

TRANSPARENT: dict[str, frozenset[str]] = {language: frozenset(_words(text)) for language, text in _TRANSPARENT.items()}
"""Words before which a noun still names what is seen: a cat photo shows a cat, a cat flap does not."""
